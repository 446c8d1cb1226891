"""What a report compares: agents with their scores, by game, on one scale."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from offpol.record.run_labels import Labelled
from offpol.record.run_results import RunResult
from offpol.reference_scores import Reference, human_random


@dataclass(frozen=True)
class Entrant:
    """A row of the tables: raw scores by game, one per run where `of_runs`, else the game's mean alone."""

    name: str
    kind: Literal["agent", "published", "baseline"]
    scores: Mapping[str, np.ndarray]
    of_runs: bool = True
    marks: str = ""  # behind its name: what is not known (†) or other (‡) of how it was measured

    def missing(self, games: Collection[str]) -> list[str]:
        """List the games that it has no score in."""
        return [game for game in games if game not in self.scores]


@dataclass(frozen=True)
class Scale:
    """How scores of several games are put on one axis: 0 is random play, 1 the `goal` of each game.

    `name` is the axis's; `goal` names what has the score 1.
    """

    name: str
    goal: str
    references: Mapping[str, Reference]


def human_scale() -> Scale:
    """Return the scale of the Atari games: 1 is a human's score."""
    return Scale("human-normalised score", "human", human_random())


@dataclass
class Comparison:
    """Runs that were played and measured alike.

    `games` is what was asked for, as far as that is known: an agent without one of them gets no aggregate. `scale` is
    None where the games have nothing in common: scores are raw then, and there is no aggregate.
    """

    title: str
    statistic: str
    protocol: dict[str, Any]
    games: list[str]
    seeds: list[int]
    runs: list[Labelled]
    scale: Scale | None = None
    entrants: list[Entrant] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def agents(self) -> list[Entrant]:
        """The entrants that are our own."""
        return [entrant for entrant in self.entrants if entrant.kind == "agent"]

    def comparable(self, entrant: Entrant) -> dict[str, np.ndarray] | None:
        """Return scores by game, normalised where there is a scale; None where a game is missing."""
        if entrant.missing(self.games):
            return None
        return {game: self.normalise(game, entrant.scores[game]) for game in self.games}

    def normalise(self, game: str, scores: np.ndarray) -> np.ndarray:
        """Return scores of a game on the comparison's scale, or the raw ones where there is none."""
        return self.scale.references[game].normalise(scores) if self.scale else scores

    @property
    def of_humans(self) -> bool:
        """Whether 1 is a human's score, as in the papers."""
        return self.scale is not None and self.scale.goal == "human"

    def asked_seeds(self, agent: str, game: str) -> list[int]:
        """Return the seeds of a game that a bench was asked for; without a bench, every seed that anyone here has."""
        plans = [one.asked for one in self.runs if one.agent == agent and one.asked]
        return sorted({seed for plan in plans for g, seed in plan.runs if g == game}) if plans else self.seeds

    def of(self, agent: str, game: str) -> list[RunResult]:
        """Return an agent's runs of a game, by seed."""
        found = [labelled.run for labelled in self.runs if labelled.agent == agent and labelled.run.game == game]
        return sorted(found, key=lambda run: run.seed)
