"""How a process computes on the CPU."""

import os
import sys
import threading


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_way() -> None:
    """Let this thread run when the process's others leave a core, mostly; where the system knows no such thing, not.

    Every half of an update waits for the slower one. A thread that acts beside it had better use the moments in which
    a half is done already.
    """
    if hasattr(os, "setpriority") and sys.platform == "linux":  # elsewhere it is the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 8)


def set_up(threads: int) -> None:
    """Use so many threads, and take numbers below 1e-38 for 0; to be called before anything is computed.

    Adam's averages of a gradient that is 0 for long, as it is behind a unit that rests, shrink to such numbers and stay
    there: times 0.9, the smallest of all rounds to itself. A processor is far slower with them: after
    some thousand updates, one of a MinAtar agent took a quarter longer (docs/performance.md).
    """
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # threads that are started later inherit it
