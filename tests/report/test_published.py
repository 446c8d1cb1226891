"""Scores to stand beside: the data that ships, and who may stand beside whom."""

import json

import numpy as np
import pytest

from offpol.bench.suite import load_suite
from offpol.reference_scores import BASELINES, DATA, baselines, human_random, table_hash
from offpol.report.aggregates import estimates
from offpol.report.published import MINOR, STATISTICS, STRICT, match, published

# What a run under the preset atari100k says of itself.
OURS = {
    "sticky_probability": 0.0, "life_loss": "terminates", "full_action_space": False, "reward_clipping": True,
    "noop_max": 30, "evaluation_epsilon": 0.001, "max_frames_per_episode": 108_000, "budget_agent_steps": 100_000,
    "frame_skip": 4,
}  # fmt: skip


def agent(name: str, agent_steps: int = 100_000):
    (found,) = [one for one in published() if (one.name, one.agent_steps) == (name, agent_steps)]
    return found


def test_the_human_random_table() -> None:
    table = human_random()
    assert len(table) == 57
    assert set(load_suite("atari57").games) == set(table)
    assert table["Breakout"].normalise(30.5) == 1.0
    assert table["Breakout"].normalise(1.7) == 0.0
    assert table["Jamesbond"] == (29.0, 302.8)  # a table in circulation has this row shifted
    assert len(table_hash()) == 12


def test_there_is_one_human_random_table() -> None:
    tables = [path.name for path in DATA.glob("*.csv") if "human" in path.read_text().splitlines()[0].split(",")]
    assert tables == ["atari_human_random.csv"]


def test_every_published_number_has_a_source_that_was_read() -> None:
    about = json.loads((DATA / "published_agents.json").read_text())["agents"]
    for one in about:
        assert one["source"]
        assert "memory" not in json.dumps(one)
        assert one["statistic"] in STATISTICS
        assert {*STRICT, *MINOR} <= set(one)
    assert {one.name for one in published()} == {one["name"] for one in about}
    for one in published():
        assert set(one.scores) <= set(human_random())
        assert all(np.isfinite(runs).all() and len(runs) for runs in one.scores.values())


@pytest.mark.parametrize(
    ("name", "iqm", "interval"),
    [("SPR", 0.337, (0.326, 0.348)), ("DrQ(eps)", 0.280, (0.271, 0.289)), ("BBF RR2", 0.940, (0.874, 1.009))],
)
def test_published_runs_give_the_known_aggregates(name: str, iqm: float, interval: tuple[float, float]) -> None:
    one = agent(name)
    scores = {game: human_random()[game].normalise(runs) for game, runs in one.scores.items()}
    assert len(scores) == 26
    found = estimates(scores, seed=0, resamples=1000)["IQM"]
    assert found.value == pytest.approx(iqm, abs=6e-4)
    assert found.interval == pytest.approx(interval, abs=6e-3)


def test_who_matches_the_protocol_of_atari100k() -> None:
    assert match(OURS, agent("BBF RR2")) == ([], [], [])
    assert match(OURS, agent("SPR")).differs == []
    assert match(OURS, agent("SPR")).unstated == ["no-op starts"]
    assert match(OURS, agent("BBF RR2 sticky 100k")).differs == ["sticky actions: 0.25, here 0"]
    assert match({**OURS, "sticky_probability": 0.25}, agent("BBF RR2 sticky 100k")).differs == []
    assert "a lost life: ignored, here terminates" in match(OURS, agent("DreamerV3")).differs
    assert match({**OURS, "frame_skip": 8}, agent("SPR")).differs == ["frames of an agent step: 4, here 8"]
    assert "frames a game may last" in match({**OURS, "max_frames_per_episode": 2000}, agent("SPR")).differs[0]
    assert match({**OURS, "reward_clipping": False}, agent("SPR")).differs == ["reward clipping: yes, here no"]
    assert match({**OURS, "budget_agent_steps": 400_000}, agent("SPR")).differs == ["100,000 agent steps, here 400,000"]
    assert match({**OURS, "evaluation_epsilon": 0.05}, agent("SPR")).minor == [
        "random actions in evaluation: 0.001, here 0.05"
    ]


def test_baselines_come_in_pairs_for_games_of_the_suites() -> None:
    """Those of `sticky` take hours and come in one by one; MinAtar's and Atari-100k's are all there."""
    found = {(row.protocol, row.game, row.name) for row in baselines()}
    whole = {("minatar", f"MinAtar-{game}") for game in load_suite("minatar").games}
    whole |= {("atari100k", game) for game in load_suite("atari100k").games}
    known = whole | {("sticky", game) for game in load_suite("atari57").games}
    measured = {(protocol, game) for protocol, game, _ in found}
    assert whole <= measured <= known
    assert found == {(*where, name) for where in measured for name in ("random", "best constant action")}
    assert all(row.episodes >= 5 for row in baselines())
    assert BASELINES.read_text().count("\n") == len(found) + 1
