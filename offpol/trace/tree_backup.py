"""Tree backup."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from offpol.ranges import check_unit
from offpol.scan import q_targets
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class TreeBackup:
    """c_t = lambda pi(a_t|s_t) (Precup et al. 2000; Munos et al. 2016, table 1).

    Needs no behavior probability and converges to Q^pi for every behavior, but cuts even on-policy.
    """

    mixture: ClassVar[Literal["taken"]] = "taken"
    lambda_: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, self.lambda_ * inputs.log_pi.exp(), inputs.v)
