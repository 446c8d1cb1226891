"""Scores of many runs in one number, with an interval: Agarwal et al. 2021 (the statistical precipice).

Scores are a mapping from game to an array [runs] of (normalised) scores; games may have different numbers of runs.
Intervals are percentile bootstraps, stratified: each resample draws every game's runs anew from that game's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Scores = Mapping[str, np.ndarray]
RESAMPLES = 10_000
CHUNK = 2_000_000  # scores resampled at once: bounds memory, about 16 MB
PERCENTILES = (2.5, 97.5)


class Estimate(NamedTuple):
    """A number and its 95% interval; None where a game has one run, so that nothing tells how its runs scatter."""

    value: float
    interval: tuple[float, float] | None


def interquartile_mean(games: Sequence[np.ndarray]) -> np.ndarray:
    """Average the middle half of all runs of all games [..., runs of a game] -> [...]; each game weighs the same.

    With as many runs in every game this is rliable's, which leaves out a whole number of runs at either end. Else a run
    weighs 1 / (games x runs of its game), and the runs at the quartiles count for the part that lies inside.
    """
    scores = np.concatenate(games, axis=-1)
    if len({runs.shape[-1] for runs in games}) == 1:
        ranked = np.sort(scores, axis=-1)
        cut = ranked.shape[-1] // 4
        middle: np.ndarray = ranked[..., cut : ranked.shape[-1] - cut].mean(axis=-1)
        return middle
    weight = np.concatenate([np.full(runs.shape[-1], 1 / (len(games) * runs.shape[-1])) for runs in games])
    order = np.argsort(scores, axis=-1)
    weight = weight[order]
    upto = np.cumsum(weight, axis=-1)
    inside = np.clip(np.minimum(upto, 0.75) - np.maximum(upto - weight, 0.25), 0.0, None)
    middle = (inside * np.take_along_axis(scores, order, axis=-1)).sum(axis=-1) / inside.sum(axis=-1)
    return middle


def median(games: Sequence[np.ndarray]) -> np.ndarray:
    """Take the median of the games' means."""
    result: np.ndarray = np.median([runs.mean(axis=-1) for runs in games], axis=0)
    return result


def mean(games: Sequence[np.ndarray]) -> np.ndarray:
    """Average the games' means; each game weighs the same."""
    result: np.ndarray = np.mean([runs.mean(axis=-1) for runs in games], axis=0)
    return result


def optimality_gap(games: Sequence[np.ndarray]) -> np.ndarray:
    """Average by how much runs fall short of 1, that is of the human reference; smaller is better."""
    result: np.ndarray = np.mean([np.maximum(0.0, 1.0 - runs).mean(axis=-1) for runs in games], axis=0)
    return result


AGGREGATES: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    "IQM": interquartile_mean, "median": median, "mean": mean, "optimality gap": optimality_gap,
}  # fmt: skip


def estimates(scores: Scores, seed: int, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Return every aggregate of AGGREGATES with its interval, all from the same resamples."""
    games = list(scores.values())
    drawn = [[aggregate(sample) for aggregate in AGGREGATES.values()] for sample in _resampled(games, seed, resamples)]
    replicates = np.concatenate(drawn, axis=-1)  # [aggregates, resamples]
    return {
        name: _estimate(games, float(aggregate(games)), replicates[i])
        for i, (name, aggregate) in enumerate(AGGREGATES.items())
    }


def profile(scores: Scores, taus: np.ndarray, seed: int, resamples: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of runs that score above each tau [T], every game weighing the same, and its interval [2, T]."""
    games = list(scores.values())

    def above(sample: Sequence[np.ndarray]) -> np.ndarray:
        shares = [share(np.sort(runs, axis=-1).reshape(-1, runs.shape[-1])) for runs in sample]
        result: np.ndarray = np.mean(shares, axis=0)
        return result

    def share(ranked: np.ndarray) -> np.ndarray:
        below: np.ndarray = np.array([np.searchsorted(row, taus, side="right") for row in ranked]) / ranked.shape[-1]
        return 1.0 - below

    replicates = np.concatenate([above(sample) for sample in _resampled(games, seed, resamples)])
    return above(games)[0], np.percentile(replicates, PERCENTILES, axis=0)


def probability_of_improvement(ours: Scores, theirs: Scores, seed: int, resamples: int = 2_000) -> Estimate:
    """Estimate P(a run of ours beats a run of theirs), ties counting half, averaged over the games both have.

    Raises ValueError where they share no game.
    """
    shared = [game for game in ours if game in theirs]
    if not shared:
        raise ValueError("the two have no game in common.")
    pairs = [(ours[game], theirs[game]) for game in shared]
    rng = np.random.default_rng(seed)
    replicates = np.zeros(resamples)
    for mine, other in pairs:
        step = max(1, CHUNK // (len(mine) * len(other)))
        for start in range(0, resamples, step):
            count = min(step, resamples - start)
            replicates[start : start + count] += _beats(_draw(mine, rng, count), _draw(other, rng, count))
    value = float(np.mean([_beats(mine, other) for mine, other in pairs]))
    return _estimate([runs for pair in pairs for runs in pair], value, replicates / len(pairs))


# ------------------------------------------------------------------------------------------- the pieces


def _draw(runs: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    return runs[rng.integers(len(runs), size=(count, len(runs)))]


def _resampled(games: Sequence[np.ndarray], seed: int, resamples: int) -> Iterator[list[np.ndarray]]:
    """Yield resampled games, each [some resamples, runs], until there were `resamples`."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // sum(len(runs) for runs in games))
    for start in range(0, resamples, step):
        yield [_draw(runs, rng, min(step, resamples - start)) for runs in games]


def _beats(mine: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compare every run of [..., n] with every one of [..., m]: the share of wins [...]."""
    difference = mine[..., :, None] - other[..., None, :]
    wins: np.ndarray = (difference > 0).mean(axis=(-2, -1)) + (difference >= 0).mean(axis=(-2, -1))
    return wins / 2


def _estimate(games: Sequence[np.ndarray], value: float, replicates: np.ndarray) -> Estimate:
    if any(len(runs) < 2 for runs in games):
        return Estimate(value, None)
    low, high = np.percentile(replicates, PERCENTILES)
    return Estimate(value, (float(low), float(high)))
