"""Scores to measure others by: human and random play of Atari, and agents that do not learn.

There is one human/random table; its hash is stored with every report, for tables differ between papers.
"""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

Score = TypeVar("Score", float, np.ndarray)
DATA = Path(__file__).parent / "data"
HUMAN_RANDOM = DATA / "atari_human_random.csv"
BASELINES = DATA / "baselines.csv"


class Reference(NamedTuple):
    """What scores of a game are measured by: random play, and a goal (a human's score where one is known)."""

    random: float
    goal: float

    def normalise(self, score: Score) -> Score:
        """Return the normalised score: 0 is random play, 1 the goal."""
        return (score - self.random) / (self.goal - self.random)


class Baseline(NamedTuple):
    """What an agent that does not learn scores: `name` is "random" or "best constant action"."""

    game: str
    protocol: str
    name: str
    action: str
    episodes: int
    mean: float
    std: float


@functools.cache
def human_random() -> dict[str, Reference]:
    """Return the table of the 57 Atari games, by game."""
    return {row["game"]: Reference(float(row["random"]), float(row["human"])) for row in rows(HUMAN_RANDOM)}


def reference_levels(game: str) -> dict[str, float]:
    """Return the scores that one of the 57 games is compared with, by name; nothing for any other."""
    reference = human_random().get(game)
    return {} if reference is None else {"random play": reference.random, "a human": reference.goal}


@functools.cache
def table_hash() -> str:
    """Return the first 12 digits of the human/random table's SHA-256."""
    return hashlib.sha256(HUMAN_RANDOM.read_bytes()).hexdigest()[:12]


@functools.cache
def baselines() -> list[Baseline]:
    """Return the measured baselines (benchmarks/baselines.py)."""
    return [
        Baseline(
            row["game"],
            row["protocol"],
            row["baseline"],
            row["action"],
            int(row["episodes"]),
            float(row["mean"]),
            float(row["std"]),
        )
        for row in rows(BASELINES)
    ]


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Read a table of offpol/data."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)
