"""How sharply advantages become weights: the scale of the advantages, and a temperature that is controlled."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

_SMALLEST_SCALE = 1e-8  # advantages below it count as none
_REACH = 100.0  # an adapted temperature stays within this factor of its start


@dataclass(frozen=True)
class TemperatureConfig:
    """How advantages are divided before exp.

    control "fixed": by `start`, in value units. "scale": by `start` times the running root mean square of the
    advantages, so that it means the same in every game. "entropy": as "scale", and the temperature is adapted
    after every batch so that the targets' mean entropy goes to `target_entropy` of log(number of actions), by at
    most a factor of 100 either way: among actions that are all equally good no temperature reaches it.
    """

    control: Literal["entropy", "scale", "fixed"]
    start: float
    target_entropy: float
    rate: float
    scale_decay: float

    def __post_init__(self) -> None:
        if not self.start > 0:
            raise ValueError(f"start must be positive, but is {self.start}: raise it above 0.")
        if not self.rate >= 0:
            raise ValueError(f"rate must not be negative, but is {self.rate}: 0 keeps the start.")
        for name in ("target_entropy", "scale_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), but is {getattr(self, name)}: change it.")


class RunningScale(nn.Module):
    """Root of the exponential moving average of a mean square, bias-corrected (Muesli, Hessel et al. 2021)."""

    square: Tensor
    updates: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("square", torch.zeros(()))
        self.register_buffer("updates", torch.zeros(()))

    def forward(self, mean_square: Tensor) -> Tensor:
        """Take in a batch's mean square (0-dim) and return the scale, at least 1e-8."""
        self.square.lerp_(mean_square.to(self.square.dtype), 1.0 - self.decay)
        self.updates.add_(1)  # `+= 1` would have nn.Module register the buffer anew
        return (self.square / (1.0 - self.decay**self.updates)).sqrt().clamp(min=_SMALLEST_SCALE)


class Multiplier(nn.Module):
    """A positive number that is moved in its logarithm, within a factor of `reach` of its start."""

    log_value: Tensor

    def __init__(self, start: float, rate: float, reach: float) -> None:
        super().__init__()
        self.middle, self.rate, self.reach = math.log(start), rate, math.log(reach)
        self.register_buffer("log_value", torch.tensor(self.middle))

    def forward(self) -> Tensor:
        """Return the number (0-dim)."""
        return self.log_value.exp()

    def push(self, direction: Tensor) -> None:
        """Raise the number where direction (0-dim) is positive, lower it where negative."""
        self.log_value.add_(self.rate * direction)
        self.log_value.clamp_(self.middle - self.reach, self.middle + self.reach)


class Temperature(nn.Module):
    """The divisor of advantages, as `TemperatureConfig` says; its state is saved with the policy."""

    def __init__(self, settings: TemperatureConfig) -> None:
        super().__init__()
        self.settings = settings
        self.scale = RunningScale(settings.scale_decay)
        self.multiplier = Multiplier(settings.start, settings.rate, _REACH)

    def forward(self, mean_square: Tensor) -> Tensor:
        """Take in the batch's mean squared advantage (0-dim); return the divisor (0-dim), in value units."""
        number = self.multiplier()
        divisor: Tensor = number if self.settings.control == "fixed" else number * self.scale(mean_square)
        return divisor

    def adapt(self, entropy: Tensor, num_actions: int) -> None:
        """Sharpen where the targets' mean entropy (0-dim, nats) is above the wanted one, else soften."""
        if self.settings.control == "entropy" and num_actions > 1:
            self.multiplier.push(self.settings.target_entropy - entropy / math.log(num_actions))
