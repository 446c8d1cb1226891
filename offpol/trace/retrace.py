"""Retrace: safe and efficient off-policy returns."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from offpol.ranges import check_unit
from offpol.scan import q_targets, ratio
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class Retrace:
    """c_t = lambda min(1, pi(a_t|s_t) / mu(a_t|s_t)) (Munos et al. 2016, eq. 3-4).

    Converges to Q^pi for every behavior. lambda multiplies after the clip, and no ratio multiplies the td
    error itself.
    """

    needs_mu: ClassVar[bool] = True
    mixture: ClassVar[Literal["taken"]] = "taken"
    lambda_: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, self.lambda_ * ratio(inputs, 1.0), inputs.v)
