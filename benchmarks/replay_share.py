"""What share of an update's time its draw and its priorities take, at Atari size, in the middle of learning.

    python benchmarks/replay_share.py                      # dqn, the default agent and rainbow on Pong, one thread

Between two updates the caches hold other things, so a draw takes several times as long as one after the other does
(`benchmarks/replay.py`). Processor milliseconds, medians of 40 updates.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from replay import play

from offpol import cpu
from offpol.assembly import build_parts
from offpol.cli import command_line
from offpol.types import Rows


def timed(spent: list[float], work: Callable[[], Any]) -> Any:
    began = time.process_time()
    result = work()
    spent.append(1000 * (time.process_time() - began))
    return result


def measure(experiment: str, rows: list[Rows], updates: int) -> tuple[float, float]:
    """Return milliseconds of replay and of learning, an update."""
    overrides = [f"experiment={experiment}", "env.game=Pong"]
    cfg = command_line.plain(next(command_line.compositions(command_line.parse(overrides))))
    with tempfile.TemporaryDirectory() as folder:
        parts = build_parts(cfg, Path(folder))
        agent, replay = parts.agent, parts.replay
        for row in rows:
            replay.add(row)
        drawing: list[float] = []
        learning: list[float] = []
        setting: list[float] = []
        for _ in range(updates):
            batch = timed(drawing, lambda: replay.sample(agent.batch_size))
            update = timed(learning, lambda batch=batch: agent.update(batch))
            timed(setting, lambda b=batch, u=update: replay.update_priorities(b.index, b.generation, u.priority))
    return median(drawing) + median(setting), median(learning)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="*", default=["dqn", "default", "rainbow"])
    parser.add_argument("--updates", type=int, default=40)
    arguments = parser.parse_args()
    cpu.set_up(1)
    rows = play("pong", 1000)
    print("| agent | replay, ms | learning, ms | share |\n|---|---|---|---|")
    for experiment in arguments.experiments:
        replay, learning = measure(experiment, rows, arguments.updates)
        print(f"| `{experiment}` | {replay:.2f} | {learning:.1f} | {replay / (replay + learning):.1%} |", flush=True)


if __name__ == "__main__":
    main()
