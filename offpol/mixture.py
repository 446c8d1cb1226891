"""A trace applied to whole distributions: the mixture of n-step backups that a return is the mean of."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from offpol.types import Mixture, TraceInputs, TraceTargets


class Lag(NamedTuple):
    """The part of the mixture that bootstraps m steps on, for the S = n - m + 1 rows that can.

    Row t takes `weight` [B, S, A] of the distribution of each action in state t + m, multiplied by `discount` [B, S]
    and shifted by `reward` [B, S].
    """

    reward: Tensor
    discount: Tensor
    weight: Tensor


def lags(inputs: TraceInputs, traced: TraceTargets, mixture: Mixture) -> Iterator[Lag]:
    """Yield the lags m = 1 .. n of the returns' mixture (Gruslys et al. 2018, Reactor).

    A return is affine in the values it bootstraps from. Its coefficient of Q(s_{t+m}, a) is the discount times
    (prod_{0<i<m} k c_{t+i}) (pi(a) - k c_{t+m} 1[a = a_{t+m}]) for "taken", or ... (1 - k c_{t+m}) pi(a) for
    "expected" (uncorrected returns). They sum to 1 over all lags and actions, but a single one may be negative: the
    mixture is a signed measure, whose average over the behavior is none. Clipping it would bias it.
    """
    n = inputs.reward.shape[1]
    kept = torch.zeros_like(inputs.reward)  # k c of the action in rows 1 .. n; none follows row n
    kept[:, :-1] = inputs.valid_next[:, :-1] * traced.trace[:, 1:]
    if mixture == "expected":
        base = (1.0 - kept).unsqueeze(-1) * inputs.pi[:, 1:]
    else:
        following = inputs.action.roll(-1, 1).unsqueeze(-1)
        base = inputs.pi[:, 1:].scatter_add(-1, following, -kept.unsqueeze(-1))
    reward, discount, reached = inputs.reward, inputs.discount, torch.ones_like(inputs.reward)
    for m in range(1, n + 1):
        yield Lag(reward, discount, reached.unsqueeze(-1) * base[:, m - 1 :])
        reward = reward[:, :-1] + discount[:, :-1] * inputs.reward[:, m:]
        reached = reached[:, :-1] * kept[:, m - 1 : -1]
        discount = discount[:, :-1] * inputs.discount[:, m:]


def split(position: Tensor, mass: Tensor, num_bins: int) -> Tensor:
    """Share masses [..., J] at positions [..., J] (in bins, clamped to 0 .. K-1) between their two neighbours [..., K].

    C51's projection (Bellemare et al. 2017, eq. 7); it keeps the total, and inside the support the mean.
    """
    position = position.clamp(0, num_bins - 1)
    lower = position.floor()
    upper_share = position - lower
    index = lower.nan_to_num().long()  # shares that are no numbers stay so, and are found by the guard
    out = torch.zeros(*mass.shape[:-1], num_bins, dtype=mass.dtype, device=mass.device)
    out.scatter_add_(-1, index, mass * (1.0 - upper_share))
    return out.scatter_add_(-1, (index + 1).clamp_(max=num_bins - 1), mass * upper_share)
