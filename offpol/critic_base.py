"""What every critic shares: how the members of an ensemble join, and what they learn by default."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from offpol.types import Mixture, TraceInputs, TraceTargets
from offpol.value_transform import Transform, squash, unsquash


class CriticBase(nn.Module):
    """A critic of `num_critics` members with `num_bins` outputs each, learning the trace's scalar returns.

    `join` makes learning targets: the members' mean where `minimum_of` is 0, else the minimum over that many random
    members, drawn anew for every batch (REDQ, Chen et al. 2021; RLPD, Ball et al. 2023). Members share a network but
    for their heads, or with `separate_networks` nothing.
    """

    distributional = False

    def __init__(
        self, num_bins: int, num_critics: int, minimum_of: int, separate_networks: bool, transform: Transform
    ) -> None:
        super().__init__()
        if num_critics < 1:
            raise ValueError(f"num_critics must be at least 1, but is {num_critics}: 1 means no ensemble.")
        if not 0 <= minimum_of <= num_critics:
            raise ValueError(
                f"minimum_of must lie between 0 (the mean) and num_critics ({num_critics}), but is {minimum_of}."
            )
        self.num_bins, self.num_critics, self.minimum_of, self.transform = num_bins, num_critics, minimum_of, transform
        self.separate_networks = separate_networks

    @property
    def initial_logits(self) -> Tensor:
        """Logits [K] of an action before anything is learned: all alike."""
        return torch.zeros(self.num_bins)

    def join(self, values: Tensor) -> Tensor:
        """Join the members' values [H, ...] to one for learning targets [...]."""
        if self.minimum_of == 0:
            return values.mean(0)
        members = torch.randperm(self.num_critics, device=values.device)[: self.minimum_of]
        return values[members].amin(0)

    def targets(self, inputs: TraceInputs, traced: TraceTargets, logits: Tensor, mixture: Mixture | None) -> Tensor:
        """Return what `loss` compares with [B, n, ...]: the trace's returns [B, n]."""
        return traced.returns

    def clamp(self, returns: Tensor) -> Tensor:
        """Return the nearest returns [...] that can be represented: themselves."""
        return returns

    def encode(self, returns: Tensor) -> Tensor:
        """Map returns to the scale that the outputs are in."""
        return returns if self.transform == "none" else squash(returns)

    def decode(self, outputs: Tensor) -> Tensor:
        """Map outputs back to returns."""
        return outputs if self.transform == "none" else unsquash(outputs)


class HistogramCritic(CriticBase, ABC):
    """A critic whose K outputs are the logits of masses at `atoms`, learned by cross-entropy against `probs(returns)`.

    `v_min` and `v_max` are the support in returns; with a `transform` the atoms are even after it.
    Raises ValueError for v_min >= v_max and fewer than 2 bins.
    """

    atoms: Tensor  # [K] values, encoded

    def __init__(
        self, v_min: float, v_max: float, num_bins: int, num_critics: int, minimum_of: int, separate_networks: bool,
        transform: Transform,
    ) -> None:  # fmt: skip
        super().__init__(num_bins, num_critics, minimum_of, separate_networks, transform)
        if not -math.inf < v_min < v_max < math.inf:
            raise ValueError(f"v_min must be below v_max and both finite, but they are {v_min} and {v_max}.")
        if num_bins < 2:
            raise ValueError(f"num_bins must be at least 2, but is {num_bins}: 51 is usual.")
        self.v_min, self.v_max = v_min, v_max
        self.low, self.high = self.encode(torch.tensor([v_min, v_max], dtype=torch.float64)).tolist()

    def keep(self, name: str, values: Tensor) -> None:
        """Hold a constant, computed in float64, on the device and in the type that everything is in."""
        self.register_buffer(name, values.to(torch.get_default_dtype()), persistent=False)

    @property
    def initial_logits(self) -> Tensor:
        """Logits [K] of a return of 0, or the nearest in the support; all equal where it is the support's middle."""
        if self.low == -self.high:
            return torch.zeros(self.num_bins)
        return histogram_logits(self.probs(self.atoms.new_zeros(())))

    def value(self, logits: Tensor) -> Tensor:
        """Decode logits [..., K] to the mean of their histogram [...], in float32 or better."""
        logits = logits.to(torch.promote_types(logits.dtype, self.atoms.dtype))
        return self.decode((torch.softmax(logits, -1) * self.atoms).sum(-1))

    @abstractmethod
    def probs(self, returns: Tensor) -> Tensor:
        """Encode targets [...] as probabilities [..., K]."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy [...] of logits [..., K] against encoded targets [...], in nats."""
        return -(self.probs(targets) * torch.log_softmax(logits, -1)).sum(-1)

    def clamp(self, returns: Tensor) -> Tensor:
        """Return the nearest returns [...] in [v_min, v_max]."""
        return returns.clamp(self.v_min, self.v_max)


FLOOR = 0.01  # share of an initial histogram that is spread evenly


def histogram_logits(probs: Tensor) -> Tensor:
    """Return logits [K] of a histogram [K] that has some mass everywhere.

    Critics start so near a return of 0 (the floor moves them a hundredth of the way to the middle of the support):
    equal logits would decode to the middle, which is wrong, and slow to unlearn, where it is not 0.
    """
    return (probs + FLOOR / len(probs)).log().cpu()
