"""What a draw costs where a memmap replay's frames are more than memory holds.

    systemd-run --scope -p MemoryMax=3G python benchmarks/beyond_memory.py --storage memmap
    python benchmarks/beyond_memory.py --storage memory

Real frames of Pong (8 envs, 84x84, stacks of 4), a ring written all through; then, as a run would, two draws of 32
windows from all of it for each step of 8 envs. Wall-clock milliseconds of a draw (waiting for the disk is what they
are about), processor milliseconds, wall-clock milliseconds of adding a step, and pages that were waited for. A limit
of memory such as the first line's stands for a machine that has no more; by itself the script knows none.
"""

from __future__ import annotations

import argparse
import resource
import time
from statistics import median, quantiles

import torch
from replay import BETA, ENVS, play

from offpol.replay.prioritized import Prioritized
from offpol.types import EnvSpec, Rows


def build(capacity: int, window: int, storage: str, directory: str) -> Prioritized:
    return Prioritized(
        capacity, 0.5, BETA, 1e-6, "max", 0.0, "stratified", "batch", storage,  # type: ignore[arg-type]
        directory if storage == "memmap" else None, spec=EnvSpec("bench", ENVS, 6, (84, 84), torch.uint8, stack=4),
        window=window, seed=0,
    )  # fmt: skip


def measure(replay: Prioritized, rows: list[Rows], draws: int) -> str:
    """Draw and add in turns; return a row of the table."""
    wall, processor, adding = [], [], []
    fetched = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    for i in range(draws):
        if i % 2 == 0:
            began = time.perf_counter()
            replay.add(rows[i // 2 % len(rows)])
            adding.append(1000 * (time.perf_counter() - began))
        began, used = time.perf_counter(), time.process_time()
        replay.sample(32)
        wall.append(1000 * (time.perf_counter() - began))
        processor.append(1000 * (time.process_time() - used))
    fetched = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - fetched
    return (
        f"{median(wall):.2f} ({quantiles(wall, n=10)[0]:.2f}-{quantiles(wall, n=10)[-1]:.2f}) | "
        f"{median(processor):.2f} | {median(adding):.2f} | {fetched / draws:.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--storage", choices=["memory", "memmap"], default="memmap")
    parser.add_argument("--directory", default=".", help="of the file of frames")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--page-by-page", action="store_true", help="as without `Storage.will_read`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = play("pong", 1000)
    print("| window | draw, ms (10th to 90th percentile) | processor, ms | adding 8 rows, ms | pages fetched a draw |")
    print("|---|---|---|---|---|")
    for window in arguments.windows:
        replay = build(arguments.capacity, window, arguments.storage, arguments.directory)
        if arguments.page_by_page:
            replay.ring.storage.will_read = lambda slots: None  # type: ignore[method-assign]
        began = time.perf_counter()
        for step in range(int(1.05 * replay.capacity_rows / ENVS)):
            replay.add(rows[step % len(rows)])
        filled_s = time.perf_counter() - began
        print(f"| {window} | {measure(replay, rows, arguments.draws)} |", flush=True)
        print(f"<!-- {replay.ring.frames.nbytes / 1e9:.1f} GB of frames written in {filled_s:.0f} s -->", flush=True)
        del replay


if __name__ == "__main__":
    main()
