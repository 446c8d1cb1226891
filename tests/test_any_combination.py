"""Any parts and values together: refused in one sentence, or a run that is interrupted, goes on, and ends the same."""

import random
from pathlib import Path

import pytest
from command import call
from test_resume import assert_same_run, interrupt_at

from offpol import main
from offpol.config import conf_dir

CASES = 40
SHORT = (
    "run.agent_steps=300", "run.learning_starts_agent_steps=60", "run.log_every_agent_steps=50", "run.eval_episodes=2",
    "run.eval_num_envs=2", "run.torch_threads=1", "network.heads.hidden=8", "network.heads.policy_hidden=8",
)  # fmt: skip
ENVS = (("env=chain",), ("env=gymnasium", "env.id=CartPole-v1"), ("env=gymnasium", "env.id=Acrobot-v1"))
BINS = "critic.num_bins=11"
# What belongs to a part is given with it; each of the others is given a third of the time.
OF_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "critic": (("hl_gauss", BINS), ("categorical", BINS), ("two_hot", BINS), ("scalar",), ("quantile",)),
    "replay": (
        ("prioritized", "replay.new_priority=neighborhood"), ("prioritized", "replay.normaliser=buffer"),
        ("prioritized", "replay.uniform_mix=0.2", "replay.draws=iid"), ("prioritized", "replay.storage=memmap"),
        ("prioritized", "replay.alpha={start: 0.3, end: 0.9, over_agent_steps: 200}"), ("uniform",), ("recent",),
        ("on_device",), ("on_device", "replay.uniform_mix=0.2"),
    ),
}  # fmt: skip
VALUES: dict[str, tuple[object, ...]] = {
    "network.heads.dueling": ("true", "false"), "network.heads.noisy": (0.5,), "critic.num_critics": (2, 3),
    "replay.capacity": (100, 150, 333), "agent.train_positions": (1, 2), "agent.target.rate": (0.1, 1),
    "agent.target.period_updates": (7,), "agent.target.acts": ("true",), "agent.resets.every_updates": (13, 30),
    "agent.annealing.over_updates": (20,), "agent.annealing.window_end": (1, 2), "agent.batch_size": (1, 3, 8),
    "run.num_envs": (1, 3, 5), "run.replay_ratio": (0.1, 0.25, 0.5), "run.checkpoint_every_agent_steps": (30, 70),
    "run.measure_every_updates": (1, 3), "run.eval_over": ("policy",),
}  # fmt: skip


def combination(draw: random.Random) -> list[str]:
    """Draw an env, each part and some values."""
    drawn = [*draw.choice(ENVS), "network=mlp", "network.widths=[8]", f"agent.window={draw.choice([1, 2, 3, 5])}"]
    for group in ("critic", "replay"):
        part, *values = draw.choice(OF_PARTS[group])
        drawn += [f"{group}={part}", *values]
    for group in ("policy", "trace", "behavior"):
        drawn.append(f"{group}={draw.choice(sorted(file.stem for file in (conf_dir() / group).iterdir()))}")
    drawn.append(f"topology={draw.choice(['sync', 'sync', 'threads'])}")
    return [*drawn, *(f"{key}={draw.choice(values)}" for key, values in VALUES.items() if draw.random() < 0.3)]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(CASES))
def test_what_is_not_refused_is_resumed_exactly(case: int, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(case)
    job = (*SHORT, *combination(draw), f"seed={case}")
    whole = call(main.main, (*job, "hydra.run.dir=whole"), monkeypatch, capfd)
    if whole.code == 2:
        assert len(whole.err.splitlines()) == 1, (job, whole.err)
        pytest.skip(whole.err)
    assert whole.code == 0, (job, whole.err)
    with monkeypatch.context() as patched:
        interrupt_at(draw.randrange(5, 290), patched)
        assert call(main.main, (*job, "hydra.run.dir=run"), patched, capfd).code == 130, job
    done = call(main.main, ("resume=run",), monkeypatch, capfd)
    assert done.code == 0, (job, done.err)
    assert_same_run(Path("whole"), Path("run"))


def test_most_combinations_that_are_drawn_differ() -> None:
    drawn = [combination(random.Random(case)) for case in range(CASES)]
    assert len(set(map(tuple, drawn))) == CASES
    for group in ("policy", "trace", "behavior"):
        assert len({word for words in drawn for word in words if word.startswith(f"{group}=")}) >= 3
