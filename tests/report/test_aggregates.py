"""Aggregates and intervals: against arithmetic done by hand, and against rliable where it is installed."""

import numpy as np
import pytest

from offpol.report.aggregates import AGGREGATES, estimates, probability_of_improvement, profile

RNG = np.random.default_rng(3)
EVEN = {f"game{g}": RNG.gamma(1.0, 0.3 + g / 20, size=5) - 0.1 for g in range(26)}
OTHER = {game: runs[:4] * 1.3 - 0.05 for game, runs in EVEN.items()}
RAGGED = {"a": np.array([0.0, 2.0, 4.0]), "b": np.array([1.0]), "c": np.array([0.5, 0.7])}


def value(name: str, scores: dict) -> float:
    return float(AGGREGATES[name](list(scores.values())))


def test_aggregates_by_hand() -> None:
    # By weight: 0 (1/9), .5 (1/6), .7 (1/6), 1 (1/3), 2 (1/9), 4 (1/9); a quarter goes at each end.
    assert value("IQM", RAGGED) == pytest.approx((0.5 / 36 + 0.7 / 6 + 1.0 * 11 / 36) / 0.5)
    assert value("median", RAGGED) == pytest.approx(1.0)
    assert value("mean", RAGGED) == pytest.approx((2.0 + 1.0 + 0.6) / 3)
    assert value("optimality gap", RAGGED) == pytest.approx((1 / 3 + 0.0 + 0.4) / 3)


def test_runs_that_are_missing_in_some_games_do_not_make_the_others_weigh_more() -> None:
    easy, hard = {f"e{g}": np.array([2.0] * 10) for g in range(2)}, {f"h{g}": np.array([0.0] * 10) for g in range(4)}
    lost = {game: runs[:1] for game, runs in hard.items()}
    assert value("IQM", easy | lost) == pytest.approx(value("IQM", easy | hard), abs=1e-9) == pytest.approx(1 / 3)
    halved = {game: np.concatenate([runs, runs]) for game, runs in EVEN.items() if game != "game0"}
    assert value("IQM", halved | {"game0": EVEN["game0"]}) == pytest.approx(value("IQM", EVEN), abs=0.02)


def test_one_run_a_game_has_no_interval_and_equal_runs_a_point() -> None:
    alone = {"a": np.array([1.0]), "b": np.array([3.0])}
    assert all(estimate.interval is None for estimate in estimates(alone, seed=0).values())
    assert probability_of_improvement(alone, alone, seed=0).interval is None
    same = {"a": np.array([2.0, 2.0]), "b": np.array([1.0, 1.0])}
    assert estimates(same, seed=0)["mean"] == (1.5, (1.5, 1.5))


def test_runs_are_resampled_within_their_game_only() -> None:
    """Games far apart, runs near each other: an interval as wide as the games' distance would be another bootstrap."""
    scores = {"a": np.array([0.0, 0.1, 0.2]), "b": np.array([100.0, 100.1, 100.2])}
    low, high = estimates(scores, seed=0)["mean"].interval
    assert 49.9 < low < 50.1 < high < 50.3
    exact = np.sqrt(2 * np.var([0.0, 0.1, 0.2]) / 3) / 2  # standard deviation of the mean of two means of three draws
    assert high - low == pytest.approx(2 * 1.96 * exact, rel=0.15)


def test_the_interval_does_not_depend_on_chunks_and_repeats(monkeypatch) -> None:
    first = estimates(EVEN, seed=1, resamples=500)
    assert first == estimates(EVEN, seed=1, resamples=500)
    monkeypatch.setattr("offpol.report.aggregates.CHUNK", 130 * 100)
    chunked = estimates(EVEN, seed=1, resamples=500)
    assert chunked["IQM"].value == first["IQM"].value
    assert chunked["IQM"].interval == pytest.approx(first["IQM"].interval, abs=0.02)


def test_the_profile_counts_runs_above() -> None:
    share, band = profile(RAGGED, np.array([-1.0, 0.5, 1.0, 4.0]), seed=0, resamples=200)
    assert share.tolist() == pytest.approx([1.0, (2 / 3 + 1 + 1 / 2) / 3, (2 / 3) / 3, 0.0])
    assert band.shape == (2, 4)
    assert (band[0] <= share + 1e-9).all()
    assert (band[1] >= share - 1e-9).all()


def test_improvement_counts_wins_and_half_of_ties() -> None:
    ours, theirs = {"a": np.array([1.0, 2.0]), "b": np.array([0.0])}, {"a": np.array([1.0, 3.0]), "c": np.array([9.0])}
    assert probability_of_improvement(ours, theirs, seed=0).value == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    assert probability_of_improvement(EVEN, EVEN, seed=0).value == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no game in common"):
        probability_of_improvement({"b": ours["b"]}, theirs, seed=0)


# What rliable 1.2.0 says of EVEN and OTHER: values, and 95% intervals from 20,000 (improvement: 2,000) resamples.
RLIABLE = {
    "IQM": (0.6254709154490175, (0.4976, 0.7813)), "median": (0.9092482956459853, (0.5952, 1.0526)),
    "mean": (1.0003365576281038, (0.8316, 1.1740)), "optimality gap": (0.4495470252374272, (0.3921, 0.5064)),
}  # fmt: skip
RLIABLE_PROFILE = np.array([116, 88, 68, 55, 42, 35, 31, 23, 21]) / 130  # above 0, 0.25 .. 2
RLIABLE_IMPROVEMENT = (0.41730769230769227, (0.3385, 0.5019))


def test_everything_agrees_with_what_rliable_said() -> None:
    ours = estimates(EVEN, seed=0)
    for name, (value_, interval) in RLIABLE.items():
        assert ours[name].value == pytest.approx(value_, abs=1e-12), name
        assert ours[name].interval == pytest.approx(interval, abs=0.012), name
    assert profile(EVEN, np.linspace(0, 2, 9), seed=0, resamples=10)[0] == pytest.approx(RLIABLE_PROFILE)
    found = probability_of_improvement(EVEN, OTHER, seed=0)
    assert found.value == pytest.approx(RLIABLE_IMPROVEMENT[0], abs=1e-12)
    assert found.interval == pytest.approx(RLIABLE_IMPROVEMENT[1], abs=0.012)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_everything_agrees_with_rliable() -> None:
    library = pytest.importorskip("rliable.library", reason="rliable is the oracle of this test only")
    from rliable import metrics

    matrix, other = (np.stack(list(scores.values()), axis=1) for scores in (EVEN, OTHER))  # [runs, games]
    theirs = {
        "IQM": metrics.aggregate_iqm, "median": metrics.aggregate_median, "mean": metrics.aggregate_mean,
        "optimality gap": metrics.aggregate_optimality_gap,
    }  # fmt: skip
    ours = estimates(EVEN, seed=0)
    for name, function in theirs.items():
        assert ours[name].value == pytest.approx(function(matrix), abs=1e-12), name
    _, intervals = library.get_interval_estimates({"x": matrix}, metrics.aggregate_iqm, reps=4000)
    assert ours["IQM"].interval == pytest.approx(intervals["x"].ravel(), abs=0.012)
    taus = np.linspace(0, 2, 21)
    expected = [library.run_score_deviation(matrix, tau) for tau in taus]
    assert profile(EVEN, taus, seed=0, resamples=10)[0] == pytest.approx(expected)
    expected = metrics.probability_of_improvement(matrix, other)
    assert probability_of_improvement(EVEN, OTHER, seed=0).value == pytest.approx(expected, abs=1e-12)
    _, intervals = library.get_interval_estimates({"xy": (matrix, other)}, metrics.probability_of_improvement, reps=400)
    assert probability_of_improvement(EVEN, OTHER, seed=0).interval == pytest.approx(intervals["xy"].ravel(), abs=0.03)
