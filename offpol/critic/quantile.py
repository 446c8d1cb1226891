"""QR-DQN: the quantiles of the distribution of returns, with distributional backups through the trace."""

import torch
from torch import Tensor

from offpol.critic_base import CriticBase
from offpol.mixture import lags
from offpol.types import Mixture, TraceInputs, TraceTargets


class Quantile(CriticBase):
    """theta_i estimates the quantile tau_i = (i + 1/2) / K; Q is their mean (Dabney et al. 2018).

    loss = sum_i sum_j w_j |tau_i - 1[z_j < theta_i]| Huber(z_j - theta_i) / delta over the atoms z_j of the trace's
    mixture of the target network's quantiles. Weights w_j sum to 1 and may be negative for one window (see
    offpol.mixture); the loss is linear in them. A row has n A K atoms and K quantiles: dear for long windows. An
    ensemble's target is the mean of its members' quantiles.
    """

    distributional = True
    levels: Tensor

    def __init__(self, num_bins: int, delta: float, num_critics: int, separate_networks: bool) -> None:
        super().__init__(num_bins, num_critics, 0, separate_networks, transform="none")
        if num_bins < 1:
            raise ValueError(f"num_bins must be at least 1, but is {num_bins}: 200 is QR-DQN's.")
        if not delta > 0:
            raise ValueError(f"delta must be positive, but is {delta}: 1 is usual.")
        self.delta = delta
        levels = (torch.arange(num_bins, dtype=torch.float64) + 0.5) / num_bins
        self.register_buffer("levels", levels.to(torch.get_default_dtype()), persistent=False)

    def value(self, logits: Tensor) -> Tensor:
        """Average quantiles [..., K] to values [...], in float32 or better."""
        return logits.to(torch.promote_types(logits.dtype, self.levels.dtype)).mean(-1)

    def targets(self, inputs: TraceInputs, traced: TraceTargets, logits: Tensor, mixture: Mixture | None) -> Tensor:
        """Return atoms and their weights, [B, n, 2, n A K]; rows that look fewer steps on have weights of 0."""
        assert mixture is not None  # the agent has refused such a trace
        quantiles = logits.mean(0)
        windows, n = inputs.reward.shape
        out = torch.zeros(windows, n, 2, n, *quantiles.shape[-2:], dtype=quantiles.dtype, device=quantiles.device)
        for m, (reward, discount, weight) in enumerate(lags(inputs, traced, mixture), 1):
            atoms = reward[..., None, None] + discount[..., None, None] * quantiles[:, m:]
            out[:, : n - m + 1, 0, m - 1] = atoms
            out[:, : n - m + 1, 1, m - 1] = (weight / self.num_bins).unsqueeze(-1)
        return out.flatten(3)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the quantile Huber loss [...] of quantiles [..., K] against atoms and weights [..., 2, J]."""
        atoms, weights = targets.detach().unbind(-2)
        gap = atoms.unsqueeze(-2) - logits.unsqueeze(-1)  # [..., K, J]
        bounded = gap.clamp(-self.delta, self.delta)
        huber = bounded * (gap - 0.5 * bounded) / self.delta
        tilted = (self.levels.unsqueeze(-1) - (gap.detach() < 0).to(gap.dtype)).abs() * huber
        return (tilted * weights.unsqueeze(-2)).sum((-2, -1))
