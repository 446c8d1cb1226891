"""Boltzmann exploration: mu proportional to exp(Q / temperature), mixed with uniform."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from offpol.actions import mix_uniform
from offpol.schedule import Schedule


@dataclass(frozen=True)
class Boltzmann:
    """Prefer actions by their value; temperature is in units of value."""

    over: ClassVar[str] = "q"
    temperature: Schedule
    epsilon: Schedule

    def __post_init__(self) -> None:
        if min(self.temperature.start, self.temperature.end) <= 0:
            raise ValueError(
                f"temperature must stay positive, but goes from {self.temperature.start} to {self.temperature.end}: "
                "behavior=epsilon_greedy acts as at 0."
            )
        self.epsilon.require_share("epsilon")

    def probs(self, q: Tensor, pi: Tensor, agent_steps: int) -> Tensor:
        """Return mu [E, A]; q and pi [E, A]."""
        return mix_uniform(torch.softmax(q / self.temperature(agent_steps), -1), self.epsilon(agent_steps))
