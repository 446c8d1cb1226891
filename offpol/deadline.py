"""An end to what hangs: an env that does not answer can neither be stopped nor waited for."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from offpol.output import tell
from offpol.ranges import check_positive


class _Closes(Protocol):
    def close(self) -> None: ...


Closable = TypeVar("Closable", bound=_Closes)
LONGEST_PERIOD_S = 1.0  # between two looks
SLOWEST_START_S = 60.0  # envs may take so long to be started or closed, however short a step's deadline is
BROKEN_CLOSE_S = 5.0  # and so long to be closed after an error
DEBUGGERS = ("bdb", "pdb", "pydevd", "_pydevd_bundle")  # modules: whose prompt is waited at by a person


def to_start_s(deadline_s: float) -> float:
    """Return the seconds in which envs must have started, or be closed, where a step may take `deadline_s`."""
    return max(deadline_s, SLOWEST_START_S)


def stack_of(thread: int | None) -> str:
    """Tell where a thread of this process stands, as a traceback does."""
    frame = sys._current_frames().get(thread or -1)
    return "".join(traceback.format_stack(frame)) if frame else ""


class Waited:
    """Seconds that one thing takes, counted by looks: none pass while the whole process is stopped."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._seconds = 0.0

    def look(self, at: int | None, period: float) -> float:
        """Take note of what is done now, by number (None: nothing), `period` seconds after the last look."""
        self._seconds = self._seconds + period if at is not None and at == self._at else 0.0
        self._at = at
        return self._seconds


class Deadline:
    """Ends the process, with exit code 1, where what is done in `with` it takes longer than `seconds`.

    Before that it says `what()`, and where the process stands. What was written stays whole: checkpoints are renamed
    into place. Time in which the whole process is stopped (Ctrl-Z), or stands in a debugger, does not count. Close it
    when it is not needed.

    Raises ValueError unless `seconds` is positive; infinity never ends anything.
    """

    def __init__(self, seconds: float, what: Callable[[], str]) -> None:
        check_positive("deadline_s", seconds)
        self._seconds, self._what = seconds, what
        self._watched, self._number, self._inside = threading.get_ident(), 0, False
        self._closed = threading.Event()
        if seconds != float("inf"):
            threading.Thread(target=self._watch, name="deadline", daemon=True).start()

    def __enter__(self) -> None:
        self._number += 1
        self._inside = True

    def __exit__(self, *error: object) -> None:
        self._inside = False

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _watch(self) -> None:
        period = min(LONGEST_PERIOD_S, self._seconds / 4)
        waited = Waited()
        while not self._closed.wait(period):
            at = self._number if self._inside else None
            if waited.look(at, period) >= self._seconds and not self._debugged():
                self._end()

    def _debugged(self) -> bool:
        frames = traceback.walk_stack(sys._current_frames()[self._watched])
        return any(str(frame.f_globals.get("__name__")).partition(".")[0] in DEBUGGERS for frame, _ in frames)

    def _end(self) -> None:
        try:
            tell(f"{stack_of(self._watched)}offpol: {self._what()}")
        finally:  # whatever keeps it from being told, as a full disk that the log is on
            os._exit(1)


@contextlib.contextmanager
def answering(deadline_s: float, doing: str, times: int = 1) -> Iterator[None]:
    """End the process, with a sentence, where envs take for ever to be built, brought back or closed."""
    seconds = times * to_start_s(deadline_s)
    what = f"the env takes longer than {seconds:g} s to {doing}: mend it, or raise topology.deadline_s"
    with contextlib.closing(Deadline(seconds, lambda: what)) as deadline, deadline:
        yield


@contextlib.contextmanager
def closing_envs(envs: Closable, deadline_s: float) -> Iterator[Closable]:
    """For `with`: close envs at the end; after an error, which is to be told whatever they do, as far as they can."""
    try:
        yield envs
    except BaseException:
        close_or_leave(envs)
        raise
    with answering(deadline_s, "close"):
        envs.close()


def close_or_leave(broken: Closable) -> None:
    """Close what may not even close: what it raises is of no use, and where it hangs it is left behind."""

    def close() -> None:
        with contextlib.suppress(Exception):
            broken.close()

    thread = threading.Thread(target=close, name="closing", daemon=True)
    thread.start()
    thread.join(BROKEN_CLOSE_S)
