"""PufferLib's advantage: GAE meets V-trace."""

from dataclasses import dataclass
from typing import ClassVar

from offpol.ranges import check_positive, check_unit
from offpol.scan import bootstrap_next, ratio, v_corrections
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class Puffer:
    """A_t = min(rho_clip, rho_t) (r_t + d_t v_{t+1} - v_t) + d_t lambda min(c_clip, rho_t) k_t A_{t+1}.

    rho = pi/mu multiplies the WHOLE td error, as PufferLib's vectorised kernel has it (its scalar kernel, which
    multiplies the reward alone, is another operator). That makes it V-trace's vs - v, with GAE's lambda; with
    ratios of 1 it is GAE. returns_t = r_t + d_t (v + A)_{t+1} estimates Q(s_t, a_t).
    """

    needs_mu: ClassVar[bool] = True
    weighted_advantage: ClassVar[bool] = True
    lambda_: float
    rho_clip: float
    c_clip: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)
        check_positive("rho_clip", self.rho_clip)
        check_positive("c_clip", self.c_clip)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        trace = self.lambda_ * ratio(inputs, self.c_clip)
        advantage = v_corrections(inputs, ratio(inputs, self.rho_clip), trace)
        return TraceTargets(bootstrap_next(inputs, advantage), advantage, trace)
