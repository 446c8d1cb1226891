"""How a process computes on the CPU."""

import os


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up(threads: int) -> None:
    """Use so many threads, and take numbers below 1e-38 for 0; to be called before anything is computed.

    Adam's averages of a gradient that is 0 for long, as it is behind a unit that rests, shrink to such numbers and stay
    there: times 0.9, the smallest of all rounds to itself. A processor is far slower with them: after
    some thousand updates, one of a MinAtar agent took a quarter longer (docs/performance.md).
    """
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # threads that are started later inherit it
