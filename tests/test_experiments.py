"""Every agent of conf/experiment runs, found by globbing; and learns, where there is time (-m slow)."""

import functools
from pathlib import Path

import pytest
import torch
from command import call
from test_conf import AGENTS, composed

from offpol.assembly import build_parts
from offpol.checks import check_config
from offpol.cli.saved_config import load_saved
from offpol.main import main
from offpol.record.checkpoint import load_newest
from offpol.training import train

SIZE = (
    "network.widths=[8]", "network.heads.hidden=8", "network.heads.policy_hidden=8", "agent.batch_size=4",
    "agent.window=4", "run.num_envs=2", "run.learning_starts_agent_steps=40", "run.replay_ratio=0.25",
    "run.agent_steps=80", "run.eval_episodes=0", "run.measure_every_updates=2", "run.torch_threads=1",
)  # fmt: skip
TINY = ("task=chain", *SIZE)
ONLINE = ("replay.offline_share.start=0", "replay.offline_share.end=0")  # until there is data


@functools.cache
def of(experiment: str, task: str = "chain") -> dict:
    return composed(f"experiment={experiment}", f"task={task}")


def overrides(experiment: str) -> list[str]:
    cfg = of(experiment)
    positions = min(4, cfg["agent"]["train_positions"])
    some = [f"agent.train_positions={positions}", *(ONLINE if "offline_share" in cfg["replay"] else ())]
    return some + (["critic.num_bins=11"] if "num_bins" in cfg["critic"] else [])


@pytest.mark.parametrize("task", ["chain", "cartpole"])
@pytest.mark.parametrize("experiment", AGENTS)
def test_every_agent_runs(experiment: str, task: str, tmp_path: Path) -> None:
    """Ten updates, without the run's folder and files: those are `test_run`'s and `test_main`'s."""
    cfg = composed(f"experiment={experiment}", f"task={task}", *SIZE, *overrides(experiment))
    check_config(cfg)
    parts = build_parts(cfg, tmp_path)
    agent = parts.agent
    actor = parts.actors.build(agent.values)
    before = torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach().clone()
    for step in range(20):
        rows, _ = actor.step(actor.act(2 * step, agent.updates))
        parts.replay.add(rows)
    for _ in range(10):
        batch = parts.replay.sample(cfg["agent"]["batch_size"])
        update = agent.update(batch, measure=True)
        parts.replay.update_priorities(batch.index, batch.generation, update.priority)
        assert all(number.isfinite() for number in update.metrics.values())
    assert update.priority.isfinite().all()
    assert not torch.equal(before, torch.nn.utils.parameters_to_vector(agent.network.parameters()))
    actor.close()


@pytest.mark.parametrize("task", ["atari", "chain", "cartpole", "minatar"])
def test_a_task_leaves_alone_what_makes_a_recipe(task: str) -> None:
    """Without a target network, and pqn with data that is used twice."""
    for experiment in ("pqn", "puffer", "impala_replay"):
        assert of(experiment, task)["agent"]["target"] == {"rate": 1.0, "period_updates": 1, "acts": False}
    pqn = of("pqn", task)
    agent = pqn["agent"]
    assert agent["batch_size"] * agent["train_positions"] * pqn["run"]["replay_ratio"] == 2
    assert of("dqn", "cartpole")["agent"]["target"]["rate"] == 0.005


@pytest.mark.parametrize("experiment", ["rlpd", "bc"])
def test_agents_of_offline_data_say_that_they_need_it(experiment: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"replay: offline is null, .*name the folder of a finished run or minari:ID"):
        build_parts(of(experiment), tmp_path)


def test_stored_data_is_of_the_same_env_found_from_anywhere_and_not_asked_for_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def offpol(*arguments: str) -> tuple[int, str]:
        done = call(main, arguments, monkeypatch, capfd)
        return done.code, done.err

    monkeypatch.chdir(tmp_path)
    short = (*TINY, "run.agent_steps=120", "run.eval_episodes=0")
    noisy = ("network.heads.noisy=0.5", "trace=n_step", "policy=greedy")
    assert offpol(*short, "hydra.run.dir=known")[0] == 0
    assert offpol(*short, *noisy, "hydra.run.dir=noisy")[0] == 0
    mixed = (*short, "replay=mixed", "hydra.run.dir=mixed")
    code, said = offpol(*mixed, "replay.offline=noisy")
    assert code == 2
    assert "noisy does not say with which probabilities its actions were drawn" in said
    code, said = offpol(*mixed, "replay.offline=known", "env.length=5")
    assert code == 2
    assert "is a run of Chain-8, but this one plays Chain-5: use data of the same env" in said
    code, said = offpol(*mixed, "replay.offline=known", "env.slip=0.25")
    assert code == 0
    assert said.count("were gathered with env.slip=0.1, and this run plays otherwise") == 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert offpol(f"resume={tmp_path / 'mixed'}", "run.agent_steps=160")[0] == 0
    (tmp_path / "known").rename(tmp_path / "moved")
    code, said = offpol(f"resume={tmp_path / 'mixed'}", "run.agent_steps=180")
    assert code == 2
    assert f"replay.offline={tmp_path / 'known'} is no run" in said
    moved = "replay.offline=../moved"
    code, said = offpol(f"resume={tmp_path / 'mixed'}", "run.agent_steps=180", "replay.offline=../mixed")
    assert code == 2
    assert "does not hold the rows that this run has been learning from" in said
    assert offpol(f"resume={tmp_path / 'mixed'}", "run.agent_steps=180", moved)[0] == 0
    assert load_saved(tmp_path / "mixed")["replay"]["offline"] == str(tmp_path / "elsewhere" / ".." / "moved")
    assert offpol(f"resume={tmp_path / 'moved'}", "run.agent_steps=240")[0] == 0
    code, said = offpol(f"resume={tmp_path / 'mixed'}", "run.agent_steps=200")
    assert code == 2
    assert "does not hold the rows that this run has been learning from" in said


RESETS = ("agent.resets.every_updates=4", "agent.annealing.over_updates=3")  # within ten updates


@pytest.mark.parametrize("experiment", ["rainbow", "rlpd", "bbf_style"])
def test_noise_offline_data_and_resets_go_on_exactly(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """A run in two halves ends with the parameters of one in one piece; rlpd learns beside the first run's replay."""
    size = (*TINY, *(text for text in overrides(experiment) if text not in ONLINE))
    size += RESETS if experiment == "bbf_style" else ()
    if experiment == "rlpd":
        train(composed("experiment=dqn", *TINY, "agent.train_positions=1", "env.length=8"), tmp_path / "data")
        size += (f"replay.offline={tmp_path / 'data'}",)
    halves = tmp_path / "halves"
    for folder, steps in ((tmp_path / "whole", 80), (halves, 60)):
        job = (f"experiment={experiment}", *size, f"run.agent_steps={steps}", f"hydra.run.dir={folder}")
        assert call(main, job, monkeypatch, capfd).code == 0
    assert call(main, (f"resume={halves}", "run.agent_steps=80"), monkeypatch, capfd).code == 0
    agents = [load_newest(path / "checkpoints", only=["agent"]).state["agent"] for path in (tmp_path / "whole", halves)]
    assert agents[0]["updates"] == agents[1]["updates"] == 10
    for name, values in agents[0]["network"].items():
        assert torch.equal(values, agents[1]["network"][name]), name


def data(tmp_path: Path) -> str:
    """Let the default agent solve CartPole, and return where its replay is."""
    train(of("default", "cartpole"), tmp_path / "data")
    return str(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("experiment", AGENTS)
def test_every_agent_learns_cartpole(experiment: str, tmp_path: Path) -> None:
    """Chance gives about 22; imitating the replay of a whole run must beat that, the others do far better."""
    cfg = composed(f"experiment={experiment}", "task=cartpole")
    if "offline" in cfg["replay"]:
        cfg["replay"]["offline"] = data(tmp_path)
    assert train(cfg, tmp_path / "run") > (60 if experiment == "bc" else 100)
