"""Watkins's Q(lambda), hard and soft."""

from dataclasses import dataclass
from typing import Literal

import torch

from offpol.ranges import check_unit
from offpol.scan import q_targets
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class Watkins:
    """Follow the data while it acts greedily, or nearly so.

    kappa None: c_t = lambda 1[a_t is greedy], v = max_a Q (Watkins 1989). Q* is learned whatever the policy
    part, unless that adds to the rewards (munchausen).
    kappa >= 0: c_t = lambda sum_a pi(a|s_t) 1[Q(s_t, a_t) >= Q(s_t, a) - kappa |Q(s_t, a)|], v = E_pi Q: slightly
    worse actions do not cut (MEME, Kapturowski et al. 2023). With a greedy pi, kappa 0 is the hard form.
    """

    lambda_: float
    kappa: float | None

    def __post_init__(self) -> None:
        check_unit("lambda_", self.lambda_)
        if self.kappa is not None and not self.kappa >= 0:
            raise ValueError(f"kappa must be null or at least 0, but is {self.kappa}: 0.01 is MEME's.")

    @property
    def mixture(self) -> Literal["taken"] | None:
        """Say that the soft form is a mixture of bootstraps over pi; the hard form takes its own maximum."""
        return None if self.kappa is None else "taken"

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        if self.kappa is None:
            trace = self.lambda_ * inputs.greedy.to(inputs.q.dtype)
            return q_targets(inputs, trace, inputs.q_values.amax(-1))
        q_values = inputs.q_values[:, :-1]
        near = inputs.q.unsqueeze(-1) >= q_values - self.kappa * q_values.abs()
        trace = self.lambda_ * torch.where(near, inputs.pi[:, :-1], 0.0).sum(-1)
        return q_targets(inputs, trace, inputs.v)
