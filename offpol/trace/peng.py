"""Peng's Q(lambda)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from offpol.ranges import check_unit
from offpol.scan import lambda_returns
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class Peng:
    """G_t = r_t + d_t ((1 - lambda) v_{t+1} + lambda G_{t+1}): c = lambda with q := v (Peng and Williams 1996).

    Uncorrected: a geometric average of n-step returns. Its fixed point lies between pi's and the behavior's
    values (Kozuno et al. 2021). lambda 1 is `n_step`; 0 is `one_step`.
    """

    mixture: ClassVar[Literal["expected"]] = "expected"
    lambda_: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        returns = lambda_returns(inputs, self.lambda_)
        return TraceTargets(returns, returns - inputs.v[:, :-1], torch.full_like(returns, self.lambda_))
