"""Suites and grids: what a command line means, run by run."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from offpol.bench.suite import NO_SUITE, Suite, expand, load_suite
from offpol.config import conf_dir
from offpol.errors import ConfigError

SUITES = sorted(path.stem for path in (conf_dir() / "suite").glob("*.yaml"))


def slices(suite: Suite) -> list[Suite]:
    """Suites that together use each name of each axis of the grid, and not all of their combinations."""
    first = [dict([next(iter(axis.items()))]) for axis in suite.grid]
    grids = [(*first[:i], axis, *first[i + 1 :]) for i, axis in enumerate(suite.grid)] or [()]
    return [replace(suite, grid=grid) for grid in grids]


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_composes_and_checks(name: str) -> None:
    for suite in slices(load_suite(name)):
        jobs = expand(suite, [f"seed={suite.seeds[0]}"])
        agents = math.prod(len(axis) for axis in suite.grid)
        assert len({job.game for job in jobs}) == len(suite.games)
        assert len({job.agent for job in jobs}) == len({job.label for job in jobs}) == agents
        assert len(jobs) == len(suite.games) * agents
        budgets = {job.cfg["run"]["agent_steps"] for job in jobs}
        assert budgets == {int(o.partition("=")[2]) for o in suite.overrides if o.startswith("run.agent_steps=")}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_file_says_what_it_is(name: str) -> None:
    text = (conf_dir() / "suite" / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert set(yaml.safe_load(text)) - {"grid"} == {"games", "seeds", "overrides"}


def test_a_suites_grid_is_every_combination_named_by_its_names() -> None:
    grid = (
        {"one": ["trace=one_step"], "three": ["trace=n_step", "agent.window=3"]},
        {"small": ["replay.capacity=1000"], "large": []},
    )
    suite = Suite("mine", (), (0, 1), ("task=chain", "experiment=study", "run.agent_steps=1500"), grid)
    jobs = expand(suite, ["agent.gamma=0.9,0.8", "agent.batch_size=16"])
    assert [job.label for job in jobs[:4]] == [
        "one, small, agent.gamma=0.9", "one, small, agent.gamma=0.8", "one, large, agent.gamma=0.9",
        "one, large, agent.gamma=0.8",
    ]  # fmt: skip
    jobs = expand(suite.only(["three", "large"]), ["agent.batch_size=16"])
    assert [(job.label, job.seed) for job in jobs] == [("three, large", 0), ("three, large", 1)]
    with pytest.raises(ConfigError, match=r"replay\.capacity is what the grid of suite mine varies"):
        expand(suite, ["replay.capacity=2000"])
    assert [job.label for job in expand(suite.only(["three"]), ["seed=0"])] == ["three, small", "three, large"]
    (job,) = [job for job in expand(suite, ["seed=1"]) if job.label == "three, small"]
    assert (job.cfg["agent"]["window"], job.cfg["replay"]["capacity"], job.seed) == (3, 1000, 1)
    assert len(expand(suite, [])) == 8


def test_the_published_sets_of_games() -> None:
    suites = {name: set(load_suite(name).games) for name in ("s6", "s8", "atari100k", "atari57")}
    assert {name: len(games) for name, games in suites.items()} == {"s6": 6, "s8": 8, "atari100k": 26, "atari57": 57}
    assert suites["s6"] | suites["s8"] <= suites["atari100k"] <= suites["atari57"]


def test_a_grid_is_ordered_by_seed_then_game_then_agent() -> None:
    jobs = expand(load_suite("s6"), ["trace=retrace,n_step", "env.game=Pong,ms_pacman", "seed=4,0"])
    assert [(job.seed, job.game, job.label) for job in jobs] == [
        (seed, game, label)
        for seed in (4, 0) for game in ("Pong", "MsPacman") for label in ("trace=retrace", "trace=n_step")
    ]  # fmt: skip
    assert len({job.identity for job in jobs}) == 4
    assert len({job.agent for job in jobs}) == 2
    last = jobs[-1]
    assert last.cfg["env"]["game"] == "ms_pacman"
    assert last.cfg["trace"]["_target_"].endswith("n_step.NStep")
    assert {"seed=0", "env.game=ms_pacman", "trace=n_step", "run.agent_steps=100000"} <= set(last.overrides)


def test_the_command_line_wins_over_the_suite() -> None:
    (job,) = expand(load_suite("s6"), ["run.agent_steps=7700", "env/preset=sticky", "seed=0", "env.game=Pong"])
    assert job.cfg["run"]["agent_steps"] == 7700
    assert job.cfg["env"]["protocol"]["name"] == "sticky"
    given = [text for text in job.overrides if text.startswith(("run.agent_steps", "env/preset"))]
    assert sorted(given) == ["env/preset=sticky", "run.agent_steps=7700"]


def test_without_a_suite_an_experiment_plays_its_own_env() -> None:
    jobs = expand(NO_SUITE, ["experiment=cartpole", "seed=range(0,3)"])
    assert [(job.label, job.game, job.seed) for job in jobs] == [("cartpole", "CartPole-v1", seed) for seed in range(3)]
    assert not any("env.game" in override for override in jobs[0].overrides)


ENVS = ("CartPole-v1", "Acrobot-v1")


@pytest.mark.parametrize("games", [(), ENVS], ids=["of the command line", "of the suite"])
def test_envs_of_gymnasium_are_games(games: tuple[str, ...]) -> None:
    given = [] if games else [f"env.id={','.join(ENVS)}"]
    jobs = expand(Suite("mine", games, (0,), ("task=cartpole",)), ["trace=retrace,n_step", *given])
    pairs = [(env, label) for env in ENVS for label in ("trace=retrace", "trace=n_step")]
    assert [(job.game, job.label) for job in jobs] == pairs
    assert [job.cfg["env"]["id"] for job in jobs] == [env for env, _ in pairs]
    assert all(f"env.id={job.game}" in job.overrides for job in jobs)
    assert len({job.agent for job in jobs}) == 2
    (quoted,) = expand(Suite("mine", games, (0,), ("task=cartpole",)), ["env.id='a:B-v0'"])
    assert quoted.game == "a:B-v0"


def test_an_env_that_plays_one_thing_plays_no_games() -> None:
    with pytest.raises(ConfigError, match=r"has none of env\.game, env\.id, so it cannot play a suite's games"):
        expand(Suite("mine", ENVS, (0,)), ["task=chain"])


def test_labels_say_what_varies() -> None:
    def labels(*arguments: str) -> list[str]:
        return [job.label for job in expand(NO_SUITE, [*arguments, "seed=0"])]

    assert labels() == ["default"]
    assert labels("experiment=default,cartpole") == ["default", "cartpole"]
    assert labels("experiment=cartpole", "trace=retrace,n_step") == ["trace=retrace", "trace=n_step"]


MISTAKES = {
    ("trase=retrace",): "did you mean 'trace'?",
    ("trace=retrace,retrac",): "did you mean 'retrace'?",
    ("env.game=Pnog",): "did you mean 'Pong'?",
    ("seed=one",): "seed is one, but must be a whole number",
    ("experiment=glob(*)",): "list the values",
    ("agent.gamma=interval(0,1)",): "list the values",
    ("agent.gamma=abc",): "agent.gamma is 'abc'",
    ("oops",): "Cannot read 'oops'",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistakes_are_told_before_anything_runs(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        expand(load_suite("smoke"), arguments)
    assert MISTAKES[arguments] in str(caught.value)


TWINS = {
    ("agent.gamma=0.9,0.9", "env.game=breakout"): "is given twice",
    ("env.game=breakout,breakout",): "is given twice",
    ("seed=0,0",): "is given twice",
}


@pytest.mark.parametrize("arguments", TWINS, ids=" ".join)
def test_no_run_is_planned_twice(arguments: tuple[str, ...]) -> None:
    suite = load_suite("study_core").only(["retrace", "tree_backup", "fresh"])
    with pytest.raises(ConfigError) as caught:
        expand(suite, arguments)
    assert TWINS[arguments] in str(caught.value)


def test_an_unknown_name_of_a_grid_is_told() -> None:
    with pytest.raises(ConfigError, match=r"The grid of study_core has no 'retrac': did you mean 'retrace'\?"):
        load_suite("study_core").only(["retrac"])
    with pytest.raises(ConfigError, match="only=retrace keeps a part of a suite's grid, and smoke has none"):
        load_suite("smoke").only(["retrace"])


def test_an_unknown_suite_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no suite 'atari100': did you mean 'atari100k'\?"):
        load_suite("atari100")


def test_parts_from_outside_are_found(tmp_path: Path) -> None:
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "mine.yaml").write_text("_target_: offpol.trace.retrace.Retrace\nlambda_: 0.5\n")
    (job,) = expand(Suite("x", ("Pong",), (0,)), ["trace=mine"], str(tmp_path))
    assert job.cfg["trace"]["lambda_"] == 0.5


def test_suites_from_outside_are_found(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    file = tmp_path / "suite" / "mine.yaml"
    text = "games: [CartPole-v1]\nseeds: [3]\noverrides: [task=cartpole]\n"
    file.write_text(text + "grid: [{one: [trace=one_step]}]\n")
    (job,) = expand(load_suite("mine", str(tmp_path)), [], str(tmp_path))
    assert (job.label, job.game, job.seed) == ("one", "CartPole-v1", 3)
    assert load_suite("smoke", str(tmp_path)) == load_suite("smoke")
    with pytest.raises(ConfigError, match=r"no suite 'min': did you mean 'mine'\?"):
        load_suite("min", str(tmp_path))
    with pytest.raises(ConfigError, match=r"There is no config folder /.*/nowhere: name the folder"):
        load_suite("mine", "nowhere")
    for wrong, said in ((text + "gird: []", r"did you mean '.*mine\.yaml\.grid'"), ("games: [", "line 1, is not yaml"),
                        (text.replace("[3]", "3"), r"mine\.yaml\.seeds is 3, but must be a list")):  # fmt: skip
        file.write_text(wrong)
        with pytest.raises(ConfigError, match=said):
            load_suite("mine", str(tmp_path))


AGENTS = [path for path in sorted((conf_dir() / "experiment").glob("*.yaml")) if "/task@" not in path.read_text()]


@pytest.mark.parametrize("agent", [path.stem for path in AGENTS])
def test_every_agent_can_play_every_kind_of_suite(agent: str) -> None:
    for suite in ("s6", "minatar"):
        (job,) = expand(load_suite(suite), [f"experiment={agent}", "seed=0", f"env.game={load_suite(suite).games[0]}"])
        assert job.label == agent
        assert str(job.cfg["run"]["agent_steps"]) in " ".join(load_suite(suite).overrides)
