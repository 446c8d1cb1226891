"""One-step bootstrap."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from offpol.types import TraceInputs, TraceTargets


@dataclass(frozen=True)
class OneStep:
    """G_t = r_t + d_t v_{t+1}: c = 0 (DQN and double DQN where pi is greedy, expected Sarsa otherwise).

    Unbiased for every behavior, but a reward travels back one step per bootstrap.
    """

    mixture: ClassVar[Literal["taken"]] = "taken"

    def __call__(self, inputs: TraceInputs) -> TraceTargets:
        returns = inputs.reward + inputs.discount * inputs.v[:, 1:]
        return TraceTargets(returns, returns - inputs.v[:, :-1], torch.zeros_like(returns))
