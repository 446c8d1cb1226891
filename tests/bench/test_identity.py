"""Which runs are the same experiment, and which the same agent."""

import copy
from typing import Any

import pytest

from offpol.assembly import build_env
from offpol.bench.suite import NO_SUITE, expand
from offpol.record.identity import agent_identity, flatten, game_of, pace_identity, run_identity
from offpol.record.run_keys import CADENCES, INCIDENTAL, MACHINE, RESUMABLE


@pytest.fixture(scope="module")
def cfg() -> dict[str, Any]:
    return dict(expand(NO_SUITE, ["env.game=Pong"])[0].cfg)


def changed(cfg: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    out = copy.deepcopy(cfg)
    node = out
    *path, last = key.split(".")
    for name in path:
        node = node[name]
    assert node[last] != value
    node[last] = value
    return out


@pytest.mark.parametrize("key", ["seed", "run.device", "run.log_every_agent_steps", "env.num_threads"])
def test_seed_machine_and_cadence_do_not_matter(cfg: dict[str, Any], key: str) -> None:
    assert run_identity(changed(cfg, key, 7)) == run_identity(cfg)


@pytest.mark.parametrize(
    ("key", "run", "agent", "pace"),
    [
        ("env.game", True, False, False),
        ("run.agent_steps", True, True, False),
        ("agent.gamma", True, True, True),
        ("env.protocol.sticky_probability", True, True, True),
    ],
)
def test_what_matters_to_which_identity(cfg: dict[str, Any], key: str, run: bool, agent: bool, pace: bool) -> None:
    other = changed(cfg, key, "Boxing" if key == "env.game" else 0.125)
    differs = [identity(other) != identity(cfg) for identity in (run_identity, agent_identity, pace_identity)]
    assert differs == [run, agent, pace]


def test_an_int_is_the_float_that_yaml_may_make_of_it(cfg: dict[str, Any]) -> None:
    assert run_identity(changed(cfg, "agent.gamma", 1)) == run_identity(changed(cfg, "agent.gamma", 1.0))


def test_a_run_on_a_gpu_is_a_seed_of_those_on_cpus(cfg: dict[str, Any]) -> None:
    (job,) = expand(NO_SUITE, ["env.game=Pong", "replay=on_device", "run.device=cuda", "run.cuda_graph=true"])
    assert job.cfg["replay"]["_target_"] != cfg["replay"]["_target_"]
    assert run_identity(job.cfg) == run_identity(cfg)
    (job,) = expand(NO_SUITE, ["env.game=Pong", "replay=on_device", "replay.alpha=0.7"])
    assert run_identity(job.cfg) != run_identity(cfg)


@pytest.mark.parametrize(
    ("behavior", "follows"),
    [("epsilon_greedy", "q"), ("boltzmann", "q"), ("epsilon_policy", "policy"), ("epsilon_greedy.over", "policy")],
)
def test_final_games_that_follow_from_the_behavior_are_those_that_are_asked_for(behavior: str, follows: str) -> None:
    choice = "behavior.over=policy" if "." in behavior else f"behavior={behavior}"
    by_default, by_q, by_policy = (
        run_identity(expand(NO_SUITE, ["env.game=Pong", choice, f"run.eval_over={over}"])[0].cfg)
        for over in ("null", "q", "policy")
    )
    assert by_default == {"q": by_q, "policy": by_policy}[follows]
    assert by_q != by_policy


def test_what_a_behavior_from_outside_follows_is_not_guessed(cfg: dict[str, Any]) -> None:
    cfg["behavior"] = {"_target_": "mine.EpsilonPolicy"}
    identities = {run_identity({**cfg, "run": {**cfg["run"], "eval_over": over}}) for over in (None, "q", "policy")}
    assert len(identities) == 3


def test_what_is_ignored_exists(cfg: dict[str, Any]) -> None:
    known = {key for key, _ in flatten(cfg)} | {"env.render", "replay.offline"}  # of gymnasium's envs, of replay=mixed
    assert known >= INCIDENTAL | RESUMABLE


def test_where_and_how_a_run_is_computed_may_change_while_it_stays_the_same_run(cfg: dict[str, Any]) -> None:
    assert RESUMABLE >= MACHINE | CADENCES
    for key in ("run.compile", "run.actor_device", "run.cuda_graph"):
        assert run_identity(changed(cfg, key, "other")) == run_identity(cfg), key
    learned_otherwise = {
        "run._target_",
        "run.num_envs",
        "run.replay_ratio",
        "run.learning_starts_agent_steps",
        "run.autocast",
    }
    assert {key for key, _ in flatten(cfg) if key.startswith("run.")} - RESUMABLE == learned_otherwise


@pytest.mark.parametrize(
    "overrides",
    [["env.game=ms_pacman"], ["env=minatar", "env.game=asterix"], ["env=chain", "env.length=5"],
     ["env=gymnasium", "env.id=CartPole-v1"]],
    ids=" ".join,
)  # fmt: skip
def test_games_are_named_as_the_env_names_itself(overrides: list[str]) -> None:
    (job,) = expand(NO_SUITE, [*overrides, "network=mlp"])
    env = build_env(job.cfg, 1, "env")
    env.close()
    assert game_of(job.cfg) == env.spec.name


@pytest.mark.parametrize(("env", "name"), [
    ({"_target_": "mine.chain.Rope"}, "chain"), ({"_target_": "mine.atari.Jax", "game": "mine"}, "mine"),
    ({"_target_": "mine.minatar.Own", "id": "Own-v1"}, "Own-v1"),
])  # fmt: skip
def test_envs_of_others_are_not_taken_for_ours_by_their_modules_name(env: dict[str, str], name: str) -> None:
    assert game_of({"env": env}) == name
