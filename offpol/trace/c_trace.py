"""C-trace: give up a share of the target policy for longer traces."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from offpol.ranges import check_unit
from offpol.scan import continuation, q_targets, ratio
from offpol.types import TraceInputs, TraceTargets

_ROUNDS, _POINTS = 3, 32  # 32^3 alphas are told apart


@dataclass(frozen=True)
class CTrace:
    """Retrace towards pi_alpha = alpha pi + (1 - alpha) mu, alpha chosen for a contraction rate.

    c_t = lambda min(1, alpha rho_t + 1 - alpha), v_t = alpha E_pi Q + (1 - alpha) Q(s_t, a_t), whose mean over mu
    is E_{pi_alpha} Q (Rowland et al. 2020). The rate of a window is how far its return moves when all values move by 1:
    1 - sum_j (prod_{i<=j} d k c) (1 - d_j). While no episode ends that is the paper's 1 - (1 - gamma) sum_j prod d k c,
    between gamma^n (nothing cut) and gamma (everything cut); it is 0 where the window's first step ends an episode.
    It grows with alpha: the largest alpha whose mean rate over the batch is at most `contraction` is found by
    search, so the operator stays a pure function (the paper follows the same target by small steps).
    Retrace (alpha 1) where that is fast enough; towards mu (alpha 0) where nothing is.

    Only mu of the action taken is known. Where no action follows, at the window's and at an episode's end, v is
    pi's.
    """

    needs_mu: ClassVar[bool] = True
    reads_batch: ClassVar[bool] = True
    lambda_: float
    contraction: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)
        check_unit("contraction", self.contraction)

    def __call__(self, inputs: TraceInputs, weight: Tensor | None = None) -> TraceTargets:
        lost = 1.0 - ratio(inputs, 1.0)
        share = torch.full_like(lost[:, 0], 1 / len(lost)) if weight is None else weight / weight.sum()
        alpha = self._alpha(inputs, lost, share)
        q_next = inputs.v[:, 1:].clone()
        q_next[:, :-1] = torch.where(inputs.valid_next[:, :-1], inputs.q[:, 1:], q_next[:, :-1])
        mixed = torch.cat([inputs.v[:, :1], torch.lerp(q_next, inputs.v[:, 1:], alpha)], 1)
        return q_targets(inputs, self.lambda_ * (1.0 - alpha * lost), mixed)

    def _alpha(self, inputs: TraceInputs, lost: Tensor, share: Tensor) -> Tensor:
        """Return the largest alpha (0-dim) that keeps the mean contraction rate at most `contraction`; shares [B]."""
        carried, lost_values = self.lambda_ * continuation(inputs), 1.0 - inputs.discount
        grid = torch.linspace(0, 1, _POINTS + 1, dtype=lost.dtype, device=lost.device)
        low, width = torch.zeros_like(grid[0]), 1.0
        for _ in range(_ROUNDS):  # all points of a round at once: a few operations on a grid, not many on a number
            alphas = (low + width * grid).view(-1, 1, 1)
            moved = (carried * (1.0 - alphas * lost[:, 1:])).cumprod(-1) * lost_values[:, 1:]  # [points, B, n-1]
            rates = 1.0 - (lost_values[:, 0] + moved.sum(-1)) @ share
            width /= _POINTS
            low = low + width * ((rates <= self.contraction).sum() - 1).clamp(min=0)
        return low.clamp(max=1.0)  # where 1 is fast enough, later rounds look beyond it
