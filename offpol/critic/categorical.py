"""C51: the distribution of returns on fixed atoms, with true distributional backups through the trace."""

import torch
from torch import Tensor

from offpol.critic_base import HistogramCritic
from offpol.mixture import lags, split
from offpol.types import Mixture, TraceInputs, TraceTargets


class Categorical(HistogramCritic):
    """Probabilities on `num_bins` atoms over [v_min, v_max], learned by cross-entropy (Bellemare et al. 2017).

    The target is the trace's mixture of shifted, discounted distributions of the target network, each projected
    onto the atoms (distributional Retrace: Gruslys et al. 2018, Reactor); with `one_step` and a greedy policy it is
    C51, with `n_step` Rainbow's. Masses may be negative for a single window (see offpol.mixture) and stay so: the
    gradient, softmax - target, is linear in them, so its average is right; the loss itself is then no divergence.
    An ensemble's target is the mean of its members' distributions.
    """

    distributional = True

    def __init__(self, v_min: float, v_max: float, num_bins: int, num_critics: int, separate_networks: bool) -> None:
        super().__init__(v_min, v_max, num_bins, num_critics, 0, separate_networks, transform="none")
        self.keep("atoms", torch.linspace(v_min, v_max, num_bins, dtype=torch.float64))
        self._per_bin = (num_bins - 1) / (v_max - v_min)

    def probs(self, returns: Tensor) -> Tensor:
        """Encode certain returns [...] inside the support as probabilities [..., K]."""
        position = (returns.unsqueeze(-1) - self.v_min) * self._per_bin
        return split(position, torch.ones_like(position), self.num_bins)

    def targets(self, inputs: TraceInputs, traced: TraceTargets, logits: Tensor, mixture: Mixture | None) -> Tensor:
        """Return target masses [B, n, K], which sum to 1 but may be negative."""
        assert mixture is not None  # the agent has refused such a trace
        probs = torch.softmax(logits.to(torch.promote_types(logits.dtype, self.atoms.dtype)), -1).mean(0)
        out = torch.zeros(*inputs.reward.shape, self.num_bins, dtype=probs.dtype, device=probs.device)
        for m, (reward, discount, weight) in enumerate(lags(inputs, traced, mixture), 1):
            mass = (weight.unsqueeze(-2) @ probs[:, m:]).squeeze(-2)
            moved = reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.atoms
            out[:, : mass.shape[1]] += split((moved - self.v_min) * self._per_bin, mass, self.num_bins)
        return out

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy [...] of logits [..., K] against target masses [..., K], in nats."""
        return -(targets.detach() * torch.log_softmax(logits, -1)).sum(-1)
