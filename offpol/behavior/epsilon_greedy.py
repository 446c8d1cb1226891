"""Epsilon-greedy: mu = (1 - epsilon) greedy + epsilon / A."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from offpol.actions import greedy_probs, ladder, mix_uniform
from offpol.schedule import Schedule


@dataclass(frozen=True)
class EpsilonGreedy:
    """Take the best action by Q or by the policy, and any action with probability epsilon."""

    over: Literal["q", "policy"]
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
        epsilon = ladder(self.epsilon(agent_steps), self.ladder_exponent, len(q), self.first_stream, self.num_streams)
        return mix_uniform(greedy_probs(q if self.over == "q" else pi), epsilon.to(q))
