"""Two-hot: values learned by classification, the target shared between its two nearest bins."""

from typing import Literal

import torch
from torch import Tensor

from offpol.critic_base import CriticBase, check_support, histogram_logits
from offpol.mixture import split


class TwoHot(CriticBase):
    """Atoms z_i evenly over [v_min, v_max]; a target y lies between z_i and z_{i+1} and gives each its nearness.

    p_i = (z_{i+1} - y) / (z_{i+1} - z_i), p_{i+1} = 1 - p_i (Schrittwieser et al. 2020, MuZero). Decoding is exact
    inside the support. With a `transform` the atoms are even after it, as in MuZero; v_min and v_max stay in
    returns.
    """

    atoms: Tensor

    def __init__(
        self, v_min: float, v_max: float, num_bins: int, transform: Literal["none", "signed_hyperbolic"],
        num_critics: int, minimum_of: int,
        separate_networks: bool,
    ) -> None:  # fmt: skip
        super().__init__(num_bins, num_critics, minimum_of, separate_networks, transform)
        check_support(v_min, v_max, num_bins)
        self.v_min, self.v_max = v_min, v_max
        low, high = self.encode(torch.tensor([v_min, v_max], dtype=torch.float64)).tolist()
        atoms = torch.linspace(low, high, num_bins, dtype=torch.float64).to(torch.get_default_dtype())
        self.register_buffer("atoms", atoms, persistent=False)
        self._low, self._per_bin = low, (num_bins - 1) / (high - low)

    @property
    def initial_logits(self) -> Tensor:
        """Logits [K] of a return of 0, or the nearest one in the support."""
        return histogram_logits(self.probs(torch.zeros(())))

    def value(self, logits: Tensor) -> Tensor:
        """Decode logits [..., K] to the mean of their histogram [...], in float32 or better."""
        logits = logits.to(torch.promote_types(logits.dtype, self.atoms.dtype))
        return self.decode((torch.softmax(logits, -1) * self.atoms).sum(-1))

    def probs(self, returns: Tensor) -> Tensor:
        """Encode targets [...] as probabilities [..., K]."""
        inside = self.encode(returns.detach().clamp(self.v_min, self.v_max)).unsqueeze(-1)
        return split((inside - self._low) * self._per_bin, torch.ones_like(inside), self.num_bins)

    def loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        """Return the cross-entropy [...] of logits [..., K] against the encoded targets [...], in nats."""
        return -(self.probs(returns) * torch.log_softmax(logits, -1)).sum(-1)

    def outside(self, returns: Tensor) -> Tensor:
        """Tell which targets [...] lie outside [v_min, v_max] and were clamped."""
        return (returns < self.v_min) | (returns > self.v_max)
