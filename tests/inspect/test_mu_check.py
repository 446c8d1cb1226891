"""Is mu computed right? The check says yes to what is right, in every kind of run, and no to every kind of mistake."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import call
from inspected import train

from offpol import actions, actor
from offpol.agent import Agent
from offpol.behavior import epsilon_greedy
from offpol.behavior.epsilon_greedy import EpsilonGreedy
from offpol.cli.saved_config import load_saved
from offpol.config import conf_dir
from offpol.errors import ConfigError
from offpol.inspect import command, mu_check
from offpol.inspect.logged_rows import LoggedRows
from offpol.inspect.mu_compare import Checked, _judge
from offpol.inspect.mu_formulas import Situation, formula
from offpol.replay.uniform import Uniform
from offpol.types import EnvSpec, Rows

FALLING = {"start": 0.9, "end": 0.1, "over_agent_steps": 500, "from_agent_steps": 7}  # still, when the checks begin
BEHAVIOR = "offpol.behavior."
GREEDY = {
    "_target_": BEHAVIOR + "epsilon_greedy.EpsilonGreedy",
    "over": "q",
    "epsilon": FALLING,
    "ladder_exponent": 0.0,
}
SAMPLED = {"_target_": BEHAVIOR + "epsilon_policy.EpsilonPolicy", "epsilon": FALLING, "ladder_exponent": 3.0}
BOLTZMANN = {
    "_target_": BEHAVIOR + "boltzmann.Boltzmann", "epsilon": FALLING,
    "temperature": {"start": 1.0, "end": 0.1, "over_agent_steps": 600, "from_agent_steps": 0},
}  # fmt: skip
THREADS = yaml.safe_load((conf_dir() / "topology" / "threads.yaml").read_text()) | {"max_policy_lag": 2}
KINDS = {  # what is changed in the config of a run that goes on
    "schedule": {},
    "over policy": {"behavior": GREEDY | {"over": "policy"}},
    "ladder": {"behavior": GREEDY | {"ladder_exponent": 7.0}},
    "sampled": {"behavior": SAMPLED},
    "boltzmann": {"behavior": BOLTZMANN},
    "lag": {"behavior": BOLTZMANN, "topology": THREADS},
    "acting target": {"behavior": BOLTZMANN, "agent": {"target": {"rate": 0.5, "period_updates": 1, "acts": True}}},
}  # fmt: skip
EPSILON = "behavior.epsilon={start: 0.9, end: 0.1, over_agent_steps: 500}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """An epsilon-greedy run that learns fast, so that versions differ."""
    return train(tmp_path_factory.mktemp("mu") / "run", "agent.optimizer.learning_rate=0.01", EPSILON)


def check(run: Path, kind: str = "schedule", steps: int = 120) -> mu_check.Result:
    cfg = load_saved(run)
    for section, changes in KINDS[kind].items():
        cfg[section] = cfg[section] | changes if section == "agent" else changes
    return mu_check.check(cfg, run, None, steps, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_logged_is_what_is_recomputed(run, kind: str) -> None:
    result = check(run, kind)
    fresh = result.fresh
    assert not fresh.num_wrong, mu_check.in_words(result)
    assert fresh.rows > 80
    assert fresh.largest_error < 1e-5
    assert abs(fresh.draws_z) < 4
    assert fresh.epsilon[0] < fresh.epsilon[1]
    assert fresh.versions > 20
    assert (fresh.largest_lag_updates > 0) == (kind == "lag")
    if kind == "ladder":
        assert fresh.epsilon[0] < 0.1 * fresh.epsilon[1]
    if kind == "schedule":
        assert result.right
        assert result.stored.rows >= 4  # acted by the parameters of the checkpoint at half of the way
        assert result.stored.largest_error < 1e-5


def test_stored_rows_of_a_run_with_lag_are_right(tmp_path) -> None:
    run = train(tmp_path / "run", "topology=threads", "topology.max_policy_lag=2", EPSILON)
    result = check(run, steps=40)
    assert result.right, mu_check.in_words(result)
    assert result.stored.rows >= 4


def coarse(values):
    """Values rounded to whole numbers, so that ties are common."""

    def rounded(agent, obs, network=None):
        q, pi = values(agent, obs, network)
        return q.round(), pi

    return rounded


def test_ties_are_right(run, monkeypatch) -> None:
    monkeypatch.setattr(Agent, "values", coarse(Agent.values))
    result = check(run)
    assert result.fresh.ties > 10
    assert not result.fresh.num_wrong, mu_check.in_words(result)


def test_warm_up_is_right_and_checked_by_the_seeds_parameters(tmp_path, monkeypatch) -> None:
    run = train(tmp_path / "run", "run.learning_starts_agent_steps=150",
                "behavior.epsilon={start: 1.0, end: 0.1, over_agent_steps: 600}")  # fmt: skip
    monkeypatch.setattr(mu_check, "_same_code", lambda directory: False)
    assert check(run, steps=20).stored.rows < 20  # its initial parameters may be those of other code
    monkeypatch.setattr(mu_check, "_same_code", lambda directory: True)
    result = check(run, steps=20)
    assert result.right, mu_check.in_words(result)
    assert result.stored.rows > 140
    assert result.stored.epsilon[1] == 1.0
    assert result.stored.explored > 20


def greedys_own(probs, rng):
    """Log the probability of the likeliest action instead of the one drawn."""
    action, _ = actions.draw(probs, rng)
    return action, np.log(probs.max(1))


def evenly(probs, rng):
    """Draw from all actions alike, whatever mu says."""
    action = rng.integers(probs.shape[1], size=len(probs))
    return action, np.log(probs[np.arange(len(probs)), action])


def in_frames(behavior, q, pi, agent_steps):
    """Count the schedule in emulator frames."""
    return ORIGINAL["probs"](behavior, q, pi, 4 * agent_steps)


def without_epsilon(probs, epsilon):
    """Log what was mixed with uniform, before it was."""
    return probs


def next_version(actor_, agent_steps, policy_version, values=None):
    """Note the version after the one that acted."""
    return ORIGINAL["act"](actor_, agent_steps, policy_version + 1, values)


def next_observation(actor_, decision):
    """Store the observation that came of the action."""
    rows, episodes = ORIGINAL["step"](actor_, decision)
    return rows._replace(obs=actor_.obs.copy()), episodes


def first_of_ties(values):
    """Give all mass to the first of equal actions."""
    return torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1]).float()


def upside_down(*arguments):
    """Give the first env what the last should have."""
    return actions.ladder(*arguments).flip(0)


ORIGINAL = {"probs": EpsilonGreedy.probs, "act": actor.Actor.act, "step": actor.Actor.step}
MISTAKES = [
    ("schedule", actor, "draw", greedys_own), ("schedule", EpsilonGreedy, "probs", in_frames),
    ("schedule", epsilon_greedy, "mix_uniform", without_epsilon), ("boltzmann", actor.Actor, "act", next_version),
    ("lag", actor.Actor, "act", next_version), ("boltzmann", actor.Actor, "step", next_observation),
    ("ladder", epsilon_greedy, "ladder", upside_down), ("ties", epsilon_greedy, "greedy_probs", first_of_ties),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "where", "name", "wrong"), MISTAKES, ids=lambda x: getattr(x, "__name__", None))
def test_every_mistake_is_found(run, monkeypatch, kind: str, where, name: str, wrong) -> None:
    if kind == "ties":
        monkeypatch.setattr(Agent, "values", coarse(Agent.values))
        kind = "schedule"
    monkeypatch.setattr(where, name, wrong)
    result = check(run, kind)
    assert result.fresh.num_wrong > 5, mu_check.in_words(result)
    assert not result.right
    assert "WRONG: stream" in mu_check.in_words(result)


def test_draws_that_do_not_follow_mu_are_noticed(run, monkeypatch) -> None:
    monkeypatch.setattr(actor, "draw", evenly)
    result = check(run)
    assert result.fresh.draws_z < -4
    assert result.logged_right
    assert not result.right
    assert "Actions are NOT drawn as often as mu says." in mu_check.in_words(result)


def test_noisy_layers_are_refused_with_the_reason(tmp_path, monkeypatch, capfd) -> None:
    run = train(tmp_path / "run", "network.heads.noisy=0.5", "trace=one_step", "policy=greedy", "run.agent_steps=100")
    shown = call(command.main, (str(run), "--check-mu"), monkeypatch, capfd)
    assert shown.code == 2
    assert "noisy layers: what is logged is the probability under the noise of that moment" in shown.err


def test_every_behavior_of_conf_has_a_formula() -> None:
    files = list((conf_dir() / "behavior").glob("*.yaml"))
    assert len({formula(yaml.safe_load(file.read_text())) for file in files}) == len(files) > 0


def test_a_behavior_without_a_formula_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"behavior is mine.Explorer, for which .*mu_formulas has no formula"):
        formula({"_target_": "mine.Explorer"})


GREEDY = {"_target_": "offpol.behavior.epsilon_greedy.EpsilonGreedy", "over": "q", "ladder_exponent": 0.0,
          "epsilon": {"start": 0.3, "end": 0.3, "over_agent_steps": 0, "from_agent_steps": 0}}  # fmt: skip


def situation(q: list[float], action: int) -> Situation:
    values = np.array([q])
    return Situation(values, values, np.array([action]), np.zeros(1), np.zeros(1), 1)


def test_rounding_may_decide_a_near_tie_but_nothing_else() -> None:
    near = formula(GREEDY)(GREEDY, situation([1.0, 1.0 + 1e-8, 0.5], 0))
    assert set(near.allowed[0].round(6)) == {0.1, 0.8, 0.45}
    assert near.undecided.all()
    for q, action, mu in (([1.0, 1.01, 0.5], 0, 0.1), ([1.0, 1.01, 0.5], 1, 0.8), ([1.0, 1.0, 0.5], 0, 0.45)):
        certain = formula(GREEDY)(GREEDY, situation(q, action))
        assert set(certain.allowed[0].round(6)) == {mu}
        assert not certain.undecided.any()
    third = formula(GREEDY)(GREEDY, situation([1.0, 1.0 + 1e-8, 0.5], 2))
    assert set(third.allowed[0].round(6)) == {0.1}


def test_a_gpu_rounds_more() -> None:
    """TF32 has 10 bits of a number, bfloat16 7: a gap that they may close is one of rounding. CPUs compute alike."""
    cpu, gpu = {"device": "cpu", "autocast": "none"}, {"device": "cuda", "autocast": "none"}
    half = {"autocast": "bfloat16"}
    rounding = [mu_check._rounding(*runs) for runs in ((cpu, cpu), (cpu, gpu), (cpu, gpu | half))]
    assert rounding == [1, 30, 300]
    assert mu_check._rounding(cpu | half, cpu | half) == 1
    at = situation([1.0, 1.0002, 0.5], 0)
    undecided = [formula(GREEDY)(GREEDY, replace(at, rounding=each)).undecided.all() for each in rounding]
    assert undecided == [False, True, True]


@pytest.mark.parametrize(("rounding", "wrong"), [(1.0, 1), (30.0, 0)])
def test_what_is_wrong_depends_on_what_it_was_computed_in(rounding: float, wrong: int) -> None:
    policy = {"_target_": "offpol.behavior.epsilon_policy.EpsilonPolicy", "ladder_exponent": 0.0,
              "epsilon": {"start": 0.0, "end": 0.0, "over_agent_steps": 0, "from_agent_steps": 0}}  # fmt: skip
    at, checked = replace(situation([0.25, 0.25, 0.5], 0), rounding=rounding), Checked("stored", rounding=rounding)
    about = {"row": np.zeros(1), "version": np.zeros(1)}
    _judge(checked, formula(policy)(policy, at), at, np.log(np.array([0.25])) + 3e-4, about)
    assert checked.num_wrong == wrong
    assert f"wrong, above {rounding * 1e-4:g}: {wrong}" in "\n".join(checked.in_words("rows"))


@pytest.mark.parametrize("stack", [1, 3])
def test_rows_are_read_without_the_replays_code(stack: int) -> None:
    """Observations, counts and episodes from saved segments, against what was added."""
    spec = EnvSpec("numbers", 2, 4, (2,), torch.float32, stack=stack)
    replay, rng = Uniform(2 * 40, "memory", None, spec=spec, window=2, seed=0), np.random.default_rng(0)
    frames, begins, valids, segments = [], [[], []], [], []
    begin, over = [0, 0], np.zeros(2, bool)
    for step in range(90):
        frame, valid = rng.normal(size=(2, 2)).astype(np.float32), ~over
        end = (rng.random(2) < 0.15) & valid
        replay.add(Rows(frame, np.full(2, step), np.zeros(2, np.float32), end, np.zeros(2, bool), valid,
                        np.full(2, -0.5, np.float32), np.full(2, step // 7)))  # fmt: skip
        for s in range(2):
            begins[s].append(begin[s])
            begin[s] = step + 1 if not valid[s] else begin[s]
        frames.append(frame)
        valids.append(valid)
        over = end
        if step % 30 == 29:
            since = segments[-1]["stop"] if segments else None
            segments += replay.state_dict(since=since)["rows"]
            if step == 59:
                replay.cut(1)
                valids[-1][1], begin[1] = False, step + 1
    rows = LoggedRows(segments, agent_steps=1000)
    taken = np.array(valids)
    np.testing.assert_array_equal(rows.valid, taken.T)
    np.testing.assert_array_equal(rows.agent_steps, 1000 - taken.sum() + np.insert(taken.sum(1).cumsum()[:-1], 0, 0))
    assert (rows.version == np.arange(90) // 7).all()
    for s in range(2):
        got = rows.observations(np.full(90, s), np.arange(90)).reshape(90, stack, 2).numpy()
        for k in range(90):
            past = [frames[j][s] if j >= begins[s][k] else np.zeros(2) for j in range(k - stack + 1, k + 1)]
            np.testing.assert_array_equal(got[k], np.array(past, np.float32))
    assert rows.complete().all()
    tail = LoggedRows(segments[1:], agent_steps=1000)
    assert not tail.complete()[:, 0].all() or stack == 1


def test_command(run, tmp_path, monkeypatch, capfd) -> None:
    out = tmp_path / "out"
    shown = call(command.main, (str(run), "--check-mu", "--steps", "40", "--out", str(out)), monkeypatch, capfd)
    assert shown.code == 0, shown.err
    assert "Every logged probability is the recomputed one." in shown.out
    assert json.loads((out / "mu.json").read_text())["right"] is True
    monkeypatch.setattr(actor, "draw", greedys_own)
    shown = call(command.main, (str(run), "--check-mu", "--out", str(out)), monkeypatch, capfd)
    assert shown.code == 1
    assert "Logged probabilities are WRONG." in shown.out
