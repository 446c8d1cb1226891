"""Importance-sampled returns."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from offpol.ranges import check_unit
from offpol.scan import q_targets, ratio
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class ImportanceSampling:
    """c_t = lambda pi(a_t|s_t) / mu(a_t|s_t), unclipped (Precup et al. 2000; Munos et al. 2016, table 1).

    At lambda 1 unbiased to the window's end. Ratios are formed from log-probabilities and may be huge, and so
    may their products: the variance is what the other operators pay bias or length for.
    """

    needs_mu: ClassVar[bool] = True
    mixture: ClassVar[Literal["taken"]] = "taken"
    lambda_: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, self.lambda_ * ratio(inputs, math.inf), inputs.v)
