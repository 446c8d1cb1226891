"""V-trace."""

from dataclasses import dataclass
from typing import ClassVar

from offpol.ranges import check_positive, check_unit
from offpol.scan import bootstrap_next, ratio, v_corrections
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class VTrace:
    """vs_t = v_t + A_t, A_t = rho_t delta_t + d_t k_t c_t A_{t+1} (Espeholt et al. 2018, eq. 1).

    rho_t = min(rho_clip, pi/mu), c_t = lambda min(c_clip, pi/mu), delta_t = r_t + d_t v_{t+1} - v_t. Learned by
    themselves, vs are the values of a policy proportional to min(rho_clip mu, pi); with v = E_pi Q, as here, targets of
    Q end between those and Q^pi. returns_t = r_t + d_t vs_{t+1} estimates Q(s_t, a_t); advantage = returns - v is not
    yet multiplied by a policy gradient's own rho.
    """

    needs_mu: ClassVar[bool] = True
    lambda_: float
    rho_clip: float
    c_clip: float

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)
        check_positive("rho_clip", self.rho_clip)
        check_positive("c_clip", self.c_clip)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        trace = self.lambda_ * ratio(inputs, self.c_clip)
        returns = bootstrap_next(inputs, v_corrections(inputs, ratio(inputs, self.rho_clip), trace))
        return TraceTargets(returns, returns - inputs.v[:, :-1], trace)
