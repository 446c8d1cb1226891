"""What a checkpoint of the replay costs: seconds and bytes, incremental against writing everything.

    python benchmarks/checkpoint.py [--rows 100000] [--new 20000] [--directory FOLDER]

Prioritized replay, 8 envs, one 84x84 frame a row, random content. Checkpoints follow each other every `--new` rows
until the ring holds `--rows`, and a few more while it overwrites; shown is the median of the last five, checksums
and fsync included. "everything" is torch.save of the ring's own arrays into one file and fsync, without checksum or
copy: what no checkpoint that writes everything can be faster than. Loading checks every checksum.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from offpol.record.checkpoint import Checkpoints
from offpol.replay.prioritized import Prioritized
from offpol.schedule import Schedule
from offpol.types import EnvSpec, Rows

ENVS = 8


def build(capacity: int) -> Prioritized:
    """Build an Atari-size replay."""
    spec = EnvSpec("bench", ENVS, 6, (84, 84), torch.uint8, stack=4)
    return Prioritized(capacity, 0.5, Schedule(0.4, 1.0, 100_000, 0), 1e-6, "max", 0.0, "stratified", "batch", "memory",
                       None, spec=spec, window=5, seed=0)  # fmt: skip


def add(replay: Prioritized, number: int, rng: np.random.Generator) -> None:
    """Add rows of random frames, some of which end an episode."""
    pool = rng.integers(0, 256, (64, ENVS, 84, 84), dtype=np.uint8)
    for step in range(number // ENVS):
        ended = rng.random(ENVS) < 0.001
        replay.add(Rows(pool[step % 64], rng.integers(6, size=ENVS), np.zeros(ENVS, np.float32), ended, ~ended & False,
                        np.ones(ENVS, bool), np.full(ENVS, -1.8, np.float32), np.full(ENVS, step)))  # fmt: skip


def timed_save(replay: Prioritized, checkpoints: Checkpoints) -> tuple[float, int]:
    """Write an incremental checkpoint; return seconds and bytes."""
    before = {path for path in checkpoints.directory.rglob("*") if path.is_file()}
    began = time.perf_counter()
    checkpoints.save({"replay": replay.state_dict(checkpoints.since)}, {})
    seconds = time.perf_counter() - began
    new = {path for path in checkpoints.directory.rglob("*") if path.is_file()} - before
    return seconds, sum(path.stat().st_size for path in new)


def timed_everything(replay: Prioritized, path: Path) -> tuple[float, int]:
    """Write the whole ring into one file; return seconds and bytes."""
    began = time.perf_counter()
    records = torch.from_numpy(replay.ring.records.view(np.uint8))
    everything = [torch.from_numpy(replay.ring.frames), records, torch.from_numpy(replay.tree.masses)]
    with path.open("wb") as file:
        torch.save(everything, path)
        os.fsync(file.fileno())
    seconds, size = time.perf_counter() - began, path.stat().st_size
    path.unlink()
    return seconds, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=20_000)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    replay = build(arguments.rows)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints", 2)
        incremental = []
        for _ in range(arguments.rows // arguments.new + 3):
            add(replay, arguments.new, rng)
            incremental.append(timed_save(replay, checkpoints))
        everything = [timed_everything(replay, Path(folder) / "all.pt") for _ in range(2)]
        del replay
        again = build(arguments.rows)
        began = time.perf_counter()
        again.load_state_dict(Checkpoints(checkpoints.directory, 2).load().state["replay"])
        loading = time.perf_counter() - began
    for name, runs in (("incremental", incremental[-5:]), ("everything", everything)):
        seconds, size = statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)
        low, high = min(run[0] for run in runs), max(run[0] for run in runs)
        print(f"{arguments.rows:,} rows, {name:11}  {seconds:6.2f} s ({low:.2f} to {high:.2f})  {size / 1e6:8.1f} MB")
    print(f"{arguments.rows:,} rows, loading      {loading:6.2f} s")


if __name__ == "__main__":
    main()
