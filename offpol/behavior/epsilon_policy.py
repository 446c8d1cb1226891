"""Sample the learned policy, mixed with uniform: mu = (1 - epsilon) pi + epsilon / A."""

from dataclasses import dataclass

from torch import Tensor

from offpol.actions import ladder, mix_uniform
from offpol.schedule import Schedule


@dataclass(frozen=True)
class EpsilonPolicy:
    """Draw from pi, and any action with probability epsilon."""

    epsilon: Schedule
    ladder_exponent: float
    first_stream: int = 0
    num_streams: int | None = None  # None: of this actor alone

    def probs(self, q: Tensor, pi: Tensor, agent_steps: int) -> Tensor:
        """Return mu [E, A]; q and pi [E, A]."""
        epsilon = ladder(
            self.epsilon(agent_steps), self.ladder_exponent, len(pi), self.first_stream, self.num_streams
        )
        return mix_uniform(pi, epsilon.to(pi))
