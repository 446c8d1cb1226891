"""What begins anew during a run: networks are reset, and gamma and the window annealed after each reset."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from offpol.types import Network


@dataclass(frozen=True)
class ResetConfig:
    """Reset the networks every `every_updates`, 0 for never, and no later than after `until_updates` (null: always).

    A reset draws the heads anew and leaves a share `keep` of every other parameter, the rest freshly drawn too
    (shrink and perturb, Ash & Adams 2020; SR-SPR, D'Oro et al. 2023; BBF, Schwarzer et al. 2023). Raises ValueError for
    negative numbers and a `keep` outside [0, 1].
    """

    every_updates: int
    until_updates: int | None
    keep: float

    def __post_init__(self) -> None:
        if self.every_updates < 0 or (self.until_updates or 0) < 0:
            raise ValueError("every_updates and until_updates must not be negative; every_updates 0 is never.")
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep must lie in [0, 1], but is {self.keep}: BBF keeps 0.5, SR-SPR 0.8.")

    def due(self, updates: int) -> bool:
        """Tell whether a reset follows update number `updates`."""
        return self.every_updates > 0 and updates > 0 and self.since(updates) == 0

    def check(self, network: Network) -> None:
        """Raise ValueError where a reset would not know what to draw anew."""
        if self.every_updates and not any(is_head(name) for name, _ in network.named_parameters()):
            raise ValueError(
                f"resets draw a network's heads anew, but {type(network).__name__} has no submodule called heads: call "
                "its last layers so, or leave resets.every_updates at 0."
            )

    def since(self, updates: int) -> int:
        """Count the updates since the last reset, or since the run began."""
        if self.every_updates == 0:
            return updates
        counted = updates if self.until_updates is None else min(updates, self.until_updates)
        return updates - counted // self.every_updates * self.every_updates


@dataclass(frozen=True)
class AnnealingConfig:
    """Over the first `over_updates` after each reset, 0 for not at all, lengthen the horizon and shorten the returns.

    gamma goes from `gamma_start` to the agent's, exponentially in 1 - gamma, and the transitions that are used of each
    window from all of them to `window_end`, exponentially and rounded (BBF, Schwarzer et al. 2023). Raises ValueError
    for a gamma_start outside [0, 1) and a window_end below 1.
    """

    over_updates: int
    gamma_start: float
    window_end: int

    def __post_init__(self) -> None:
        if self.over_updates < 0:
            raise ValueError(f"over_updates must not be negative, but is {self.over_updates}; 0 is never.")
        if not 0 <= self.gamma_start < 1:
            raise ValueError(f"gamma_start must lie in [0, 1), but is {self.gamma_start}: BBF's is 0.97.")
        if self.window_end < 1:
            raise ValueError(f"window_end must be at least 1, but is {self.window_end}: BBF's is 3.")

    def __call__(self, gamma: float, window: int, since: int) -> tuple[float, int]:
        """Return gamma and the transitions to use, `since` updates after a reset."""
        if self.over_updates == 0:
            return gamma, window
        share = min(1.0, since / self.over_updates)
        missing = (1 - self.gamma_start) ** (1 - share) * (1 - gamma) ** share
        return 1 - missing, round(window ** (1 - share) * self.window_end**share)

    def check(self, gamma: float, window: int, train_positions: int) -> None:
        """Raise ValueError unless there is something to anneal towards."""
        if self.over_updates and not train_positions <= self.window_end <= window:
            raise ValueError(
                f"annealing.window_end must lie between train_positions ({train_positions}) and the window ({window}), "
                f"but is {self.window_end}."
            )
        if self.over_updates and not gamma < 1:
            raise ValueError("gamma must be below 1 where it is annealed: 1 - gamma is what shrinks (BBF: to 0.003).")


@torch.no_grad()
def reset(network: Network, fresh: Network, keep: float, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Copy the heads of a freshly built network, and blend the rest; the heads' optimizer state goes to zero."""
    for (name, parameter), new in zip(network.named_parameters(), fresh.parameters(), strict=True):
        drawn = new.to(parameter.device)
        if not is_head(name):
            parameter.lerp_(drawn, 1 - keep)
            continue
        parameter.copy_(drawn)
        for moment in (optimizer.state.get(parameter, {}) if optimizer else {}).values():
            moment.zero_()


def is_head(name: str) -> bool:
    """Tell from a parameter's dotted name whether it belongs to the network's `heads`."""
    return "heads" in name.split(".")
