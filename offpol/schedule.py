"""A number that changes with experience."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Go linearly from `start` to `end` over the first `over_agent_steps`, then stay.

    Agent steps are decisions of all envs together, never emulator frames. Raises ValueError for a negative length.
    """

    start: float
    end: float
    over_agent_steps: int

    def __post_init__(self) -> None:
        if self.over_agent_steps < 0:
            raise ValueError(f"over_agent_steps must be 0 (none) or more, but is {self.over_agent_steps}.")

    def __call__(self, agent_steps: int) -> float:
        if agent_steps >= self.over_agent_steps:
            return self.end
        return self.start + (self.end - self.start) * (agent_steps / self.over_agent_steps)

    def require_share(self, name: str) -> None:
        """Raise ValueError, by the `name` it has in yaml, where it leaves [0, 1]."""
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1):
            raise ValueError(f"{name} must stay between 0 and 1, but goes from {self.start} to {self.end}.")
