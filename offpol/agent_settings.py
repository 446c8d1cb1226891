"""What an agent is told about its learning, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TargetConfig:
    """Every `period_updates` the target moves by `rate` towards the online network; rate 1 copies it.

    With `acts` it is the target network that acts, not the online one (SR-SPR, BBF). Raises ValueError for senseless
    values.
    """

    rate: float
    period_updates: int
    acts: bool

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must lie in (0, 1], but is {self.rate}: 1 copies the online network.")
        if self.period_updates < 1:
            raise ValueError(f"period_updates must be at least 1, but is {self.period_updates}.")


def check_settings(
    gamma: float, window: int, train_positions: int, batch_size: int, policy_coefficient: float,
    priority_max_share: float,
) -> None:  # fmt: skip
    """Raise ValueError for a number that an agent could not learn with; see `offpol.agent.Agent` for what they mean."""
    for name, count in (("window", window), ("batch_size", batch_size)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, but is {count}.")
    if not 1 <= train_positions <= window:
        raise ValueError(f"train_positions must lie between 1 and the window ({window}), but is {train_positions}.")
    for name, share in (("gamma", gamma), ("priority_max_share", priority_max_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, but is {share}.")
    if not 0 <= policy_coefficient < math.inf:
        raise ValueError(f"policy_coefficient must be finite and not negative, but is {policy_coefficient}.")
