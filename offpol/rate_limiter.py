"""How many updates are due: the replay ratio, kept exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property


@dataclass(frozen=True)
class RateLimiter:
    """`replay_ratio` updates per agent step, from `learning_starts_agent_steps` on.

    The count is a whole-number function of what has happened, computed in exact fractions: it drifts over no
    number of steps, does not depend on how many envs step together, and asks for no burst after resuming.
    Raises ValueError for a negative ratio or start.
    """

    replay_ratio: float
    learning_starts_agent_steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.replay_ratio < float("inf"):
            raise ValueError(f"replay_ratio must be a number of at least 0, but is {self.replay_ratio}.")
        if self.learning_starts_agent_steps < 0:
            raise ValueError(f"learning_starts_agent_steps must not be negative: {self.learning_starts_agent_steps}.")

    @cached_property
    def _ratio(self) -> Fraction:
        """The ratio as it was written: 0.3 means 3/10, not the double next to it."""
        return Fraction(str(self.replay_ratio))

    def updates_due(self, agent_steps: int, updates: int) -> int:
        """Return how many updates to do now, when `updates` were done in `agent_steps` decisions."""
        learning = max(0, agent_steps - self.learning_starts_agent_steps)
        return max(0, learning * self._ratio.numerator // self._ratio.denominator - updates)
