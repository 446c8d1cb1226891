"""HL-Gauss: values learned by classification against a smoothed histogram of the target."""

import math

import torch
from torch import Tensor

from offpol.critic_base import HistogramCritic
from offpol.value_transform import Transform


class HLGauss(HistogramCritic):
    """Histogram of `num_bins` bins over [v_min, v_max] (Farebrother et al. 2024).

    p_i = [Phi((e_{i+1} - y)/sigma) - Phi((e_i - y)/sigma)] / [Phi((e_K - y)/sigma) - Phi((e_0 - y)/sigma)] with
    edges e, sigma = sigma_ratio bin widths and y the target clamped to the support; Q = sum_i p_i centre_i.

    Clamping first keeps the mass inside above about one half: every finite target gives finite probabilities.
    A target at an edge decodes 0.69 bin inside it (at sigma_ratio 0.75): choose a support wider than the
    returns. The loss has the target's entropy as its floor (1.2 nats), so it is no priority. With a `transform` the
    bins are evenly wide after it; v_min and v_max stay in returns.

    Raises ValueError for v_min >= v_max, fewer than 2 bins, a sigma_ratio that is not positive.
    """

    edges: Tensor

    def __init__(
        self, v_min: float, v_max: float, num_bins: int, sigma_ratio: float,
        transform: Transform, num_critics: int, minimum_of: int,
        separate_networks: bool,
    ) -> None:  # fmt: skip
        super().__init__(v_min, v_max, num_bins, num_critics, minimum_of, separate_networks, transform)
        if not sigma_ratio > 0:
            raise ValueError(f"sigma_ratio must be positive, but is {sigma_ratio}: 0.75 is usual.")
        width = (self.high - self.low) / num_bins
        edges = torch.linspace(self.low, self.high, num_bins + 1, dtype=torch.float64)
        self.keep("edges", edges)
        self.keep("atoms", edges[:-1] + width / 2)
        self._inverse_scale = 1.0 / (sigma_ratio * width * math.sqrt(2.0))

    def probs(self, returns: Tensor) -> Tensor:
        """Encode targets [...] as probabilities [..., K]; one erf per edge serves both its bins."""
        inside = self.encode(returns.detach().clamp(self.v_min, self.v_max)).unsqueeze(-1)
        cdf = torch.erf((self.edges - inside) * self._inverse_scale)
        return cdf.diff(dim=-1) / (cdf[..., -1:] - cdf[..., :1])
