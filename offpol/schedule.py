"""A number that changes with experience."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Stay at `start` up to `from_agent_steps`, go linearly to `end` over the next `over_agent_steps`, then stay.

    Agent steps are decisions of all envs together, never emulator frames. Raises ValueError for negative ones.
    """

    start: float
    end: float
    over_agent_steps: int
    from_agent_steps: int

    def __post_init__(self) -> None:
        for name in ("over_agent_steps", "from_agent_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (none) or more, but is {getattr(self, name)}.")

    def __call__(self, agent_steps: int) -> float:
        gone = agent_steps - self.from_agent_steps
        if gone >= self.over_agent_steps:
            return self.end
        if gone <= 0:
            return self.start
        return self.start + (self.end - self.start) * (gone / self.over_agent_steps)

    def require_share(self, name: str) -> None:
        """Raise ValueError, by the `name` it has in yaml, where it leaves [0, 1]."""
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1):
            raise ValueError(f"{name} must stay between 0 and 1, but goes from {self.start} to {self.end}.")
