"""Where the time goes."""

from __future__ import annotations

import resource
import time
from collections import defaultdict


class Clock:
    """A stopwatch for `with`; what other processes measured may be added to its `seconds`."""

    __slots__ = ("_start", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._start

    def take(self) -> float:
        """Return the seconds since the last take."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Meter:
    """How fast a run is, and what its time goes into: from one row of metrics to the next."""

    def __init__(self) -> None:
        self.wall_s = 0.0  # up to the last row
        self.clocks: dict[str, Clock] = defaultdict(Clock)
        self.start(0, 0)

    def start(self, agent_steps: int, updates: int) -> None:
        """Measure from here on."""
        self._tick, self._agent_steps, self._updates = time.perf_counter(), agent_steps, updates

    @property
    def elapsed_s(self) -> float:
        """Seconds up to now."""
        return self.wall_s + time.perf_counter() - self._tick

    def row(self, agent_steps: int, updates: int) -> dict[str, float]:
        """Return speed, memory and shares of time since the last row, and start the next one."""
        now = time.perf_counter()
        spent, self._tick = max(now - self._tick, 1e-9), now
        self.wall_s += spent
        row = {
            "wall_s": self.wall_s,
            "cpu_s": time.process_time(),  # of all threads, since the process began
            "agent_steps_per_s": (agent_steps - self._agent_steps) / spent,
            "updates_per_s": (updates - self._updates) / spent,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        row |= {f"share_{name}": clock.take() / spent for name, clock in list(self.clocks.items())}
        self._agent_steps, self._updates = agent_steps, updates
        return row
