"""Q(lambda) with off-policy corrections."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from offpol.ranges import check_unit
from offpol.scan import q_targets
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class QLambda:
    """c_t = lambda, with v = E_pi Q in every td error (Harutyunyan et al. 2016, Q^pi(lambda)).

    Never cuts. Converges to Q^pi where the behavior is near pi: lambda < (1 - gamma) / (gamma max_s |pi - mu|_1);
    may diverge otherwise.
    """

    mixture: ClassVar[Literal["taken"]] = "taken"
    lambda_: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        return q_targets(inputs, torch.full_like(inputs.q, self.lambda_), inputs.v)
