"""Recency-bounded importance sampling, a trajectory-aware trace."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from offpol.ranges import check_unit
from offpol.scan import continuation, ratio
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class RBIS:
    """G_t = q_t + sum_j (prod d k) beta_j delta_{t+j}, beta_0 = 1, beta_j = min(lambda^j, rho_{t+j} beta_{j-1}).

    (Daley et al. 2023.) The bound is on the whole product, so a trace recovers after a small ratio where
    Retrace's stays cut. beta depends on where a return starts: the sum runs over lags j, each for all starts at
    once, O(n^2) numbers in n steps. `trace` holds beta_j / beta_{j-1} of the window's first row (above 1 where
    the trace recovers, 0 once it is cut), so that its products are that row's betas.
    """

    needs_mu: ClassVar[bool] = True
    lambda_: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        n = inputs.q.shape[1]
        rho, carried = ratio(inputs, math.inf), continuation(inputs)
        td_error = inputs.reward + inputs.discount * inputs.v[:, 1:] - inputs.q
        beta, discount = torch.ones_like(td_error), torch.ones_like(td_error)
        returns, first = inputs.q + td_error, [beta[:, 0]]
        for j in range(1, n):
            beta = (rho[:, j:] * beta[:, : n - j]).clamp(max=self.lambda_**j)
            discount = discount[:, : n - j] * carried[:, j - 1 :]
            returns[:, : n - j] += discount * beta * td_error[:, j:]
            first.append(beta[:, 0])
        betas = torch.stack(first, 1)
        trace = torch.where(betas[:, :-1] > 0, betas[:, 1:] / betas[:, :-1], 0.0)
        trace = torch.cat([rho[:, :1].clamp(max=self.lambda_), trace], 1)
        return TraceTargets(returns, returns - inputs.v[:, :-1], trace)
