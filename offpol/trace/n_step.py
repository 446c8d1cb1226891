"""Uncorrected n-step returns."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from offpol.scan import lambda_returns
from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class NStep:
    """G_t = sum_{i<m} gamma^i r_{t+i} + gamma^m v_{t+m}, m steps to the window's or the episode's end.

    At truncation the value of the final observation is used, discounted by the steps actually made. Nothing
    corrects for the behavior: biased off-policy (Hessel et al. 2018, Rainbow). Rows later in the window look
    fewer steps ahead; train only the first (`train_positions` 1) for the textbook n-step agent.
    """

    mixture: ClassVar[Literal["expected"]] = "expected"
    joins_steps: ClassVar[bool] = True

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        returns = lambda_returns(inputs, 1.0)
        return TraceTargets(returns, returns - inputs.v[:, :-1], torch.ones_like(returns))
