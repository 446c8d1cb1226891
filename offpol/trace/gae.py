"""Generalised advantage estimation."""

from dataclasses import dataclass

import torch

from offpol.ranges import check_unit
from offpol.scan import v_corrections
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class GAE:
    """A_t = delta_t + d_t lambda k_t A_{t+1}, delta_t = r_t + d_t v_{t+1} - v_t (Schulman et al. 2016, eq. 16).

    No correction for the behavior: for data that pi itself, or nearly so, has gathered. Replayed data is not, and an
    agent refuses this trace unless `off_policy` says that the bias is accepted. returns = v + A, the lambda-return (as
    `peng`).
    """

    lambda_: float
    off_policy: bool

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        trace = torch.full_like(inputs.reward, self.lambda_)
        advantage = v_corrections(inputs, torch.ones_like(trace), trace)
        return TraceTargets(inputs.v[:, :-1] + advantage, advantage, trace)
