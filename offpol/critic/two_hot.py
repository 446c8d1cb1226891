"""Two-hot: values learned by classification, the target shared between its two nearest bins."""

import torch
from torch import Tensor

from offpol.critic_base import HistogramCritic
from offpol.mixture import split
from offpol.value_transform import Transform


class TwoHot(HistogramCritic):
    """Atoms z_i evenly over [v_min, v_max]; a target y lies between z_i and z_{i+1} and gives each its nearness.

    p_i = (z_{i+1} - y) / (z_{i+1} - z_i), p_{i+1} = 1 - p_i (Schrittwieser et al. 2020, MuZero). Decoding is exact
    inside the support. With a `transform` the atoms are even after it, as in MuZero.
    """

    def __init__(
        self, v_min: float, v_max: float, num_bins: int, transform: Transform,
        num_critics: int, minimum_of: int, separate_networks: bool,
    ) -> None:  # fmt: skip
        super().__init__(v_min, v_max, num_bins, num_critics, minimum_of, separate_networks, transform)
        self.keep("atoms", torch.linspace(self.low, self.high, num_bins, dtype=torch.float64))
        self._per_bin = (num_bins - 1) / (self.high - self.low)

    def probs(self, returns: Tensor) -> Tensor:
        """Encode targets [...] as probabilities [..., K]."""
        inside = self.encode(returns.detach().clamp(self.v_min, self.v_max)).unsqueeze(-1)
        return split((inside - self.low) * self._per_bin, torch.ones_like(inside), self.num_bins)
