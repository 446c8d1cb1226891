"""Where the time goes."""

from __future__ import annotations

import time


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
