"""A number that changes with experience."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Go linearly from `start` to `end` over the first `over_agent_steps`, then stay.

    Agent steps are decisions of all envs together, never emulator frames.
    """

    start: float
    end: float
    over_agent_steps: int

    def __call__(self, agent_steps: int) -> float:
        if agent_steps >= self.over_agent_steps:
            return self.end
        return self.start + (self.end - self.start) * (agent_steps / self.over_agent_steps)
