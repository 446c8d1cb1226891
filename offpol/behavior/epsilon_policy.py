"""Sample the learned policy, mixed with uniform: mu = (1 - epsilon) pi + epsilon / A."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from offpol.actions import ladder, mix_uniform
from offpol.schedule import Schedule


@dataclass(frozen=True)
class EpsilonPolicy:
    """Draw from pi, and any action with probability epsilon."""

    over: ClassVar[str] = "policy"
    epsilon: Schedule
    ladder_exponent: float
    first_stream: int = 0
    num_streams: int | None = None  # None: of this actor alone

    def __post_init__(self) -> None:
        self.epsilon.require_share("epsilon")
        if not 0 <= self.ladder_exponent < float("inf"):
            raise ValueError(f"ladder_exponent must be 0 (none) or more, but is {self.ladder_exponent}: Ape-X has 7.")

    def probs(self, q: Tensor, pi: Tensor, agent_steps: int) -> Tensor:
        """Return mu [E, A]; q and pi [E, A]."""
        epsilon = ladder(self.epsilon(agent_steps), self.ladder_exponent, len(pi), self.first_stream, self.num_streams)
        return mix_uniform(pi, epsilon.to(pi))
