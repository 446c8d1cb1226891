"""offpol's replay beside other libraries', on the same work: processor microseconds of one thread, and ratios.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/replay_peers.py [--capacity 50000] [--out replay.json]

Real frames of Pong played at random (8 envs, 84x84, stacks of 4). The work is to add one step of all envs, to draw 32
one-step windows, and to set 32 priorities that were drawn before. Each full replay takes its turn at each of them,
round after round; a ratio is the median over rounds of what the peer took against what offpol took in the same round.
offpol's prioritized replay is what others are compared with; its uniform one is shown beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.replays import PEERS
from replay import build, microseconds, play

from offpol.replay.prioritized import Prioritized
from offpol.replay.uniform import Uniform
from offpol.types import Rows

OPERATIONS = {"add 8 envs": 50, "sample 32": 40, "update 32": 100}  # and calls in a round
POOL = 400  # steps of all envs that are added over and over: eight times 28 kB each


class Offpol:
    """offpol's replays behind the interface of the peers."""

    def __init__(self, kind: type, capacity: int) -> None:
        self.replay = build(kind, capacity, 1)

    def adder(self, stacks: np.ndarray, following: np.ndarray, rows: Rows) -> Callable[[], object]:
        return lambda: self.replay.add(rows)

    def sample(self) -> Any:
        return self.replay.sample(32)

    def updater(self, batch: Any, priority: torch.Tensor) -> Callable[[], object]:
        index, generation = batch.index, batch.generation
        return lambda: self.replay.update_priorities(index, generation, priority)


def resident_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def priorities(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.exponential(size=32).astype(np.float32))


def filled(make: Callable[[int], Any], capacity: int, pool: list[tuple]) -> tuple[Any, list]:
    """Build a replay and fill it, with a few priorities set on the way; return it and its calls that add a step."""
    replay, rng = make(capacity), np.random.default_rng(1)
    adders = [replay.adder(*step) for step in pool]
    for step in range(int(1.05 * capacity / len(pool[0][2].valid))):
        adders[step % len(adders)]()
        if replay.updater and step % 16 == 15 and step > 100:
            replay.updater(replay.sample(), priorities(rng))()
    return replay, adders


def one_round(replay: Any, adders: list, rng: np.random.Generator) -> dict[str, float]:
    """Measure each operation once, in microseconds a call."""
    steps = iter(range(10**9))
    measured = {"add 8 envs": microseconds(lambda: adders[next(steps) % POOL](), OPERATIONS["add 8 envs"])}
    measured["sample 32"] = microseconds(replay.sample, OPERATIONS["sample 32"])
    if replay.updater:
        calls = [replay.updater(replay.sample(), priorities(rng)) for _ in range(OPERATIONS["update 32"])]
        todo = iter(calls)
        measured["update 32"] = microseconds(lambda: next(todo)(), len(calls))
    return measured


def table(rounds: dict[str, list[dict[str, float]]], base: str) -> dict[str, dict[str, dict[str, float]]]:
    """Join rounds: by contender and operation the median microseconds, and the median ratio to `base`."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, measured in rounds.items():
        result[name] = {}
        for operation in measured[0]:
            own = np.array([one[operation] for one in measured])
            theirs = np.array([one[operation] for one in rounds[base]])
            result[name][operation] = {"microseconds": float(np.median(own)), "ratio": float(np.median(own / theirs)),
                                       "lowest": float(own.min())}  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="also write everything measured to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = play("pong", POOL + 5)
    stacks = [np.stack([rows[t + back].obs for back in range(4)], axis=1) for t in range(POOL + 1)]
    pool = [(stacks[t], stacks[t + 1], rows[t + 3]) for t in range(POOL)]
    base = "offpol, prioritized"
    makers = {base: lambda capacity: Offpol(Prioritized, capacity)} | PEERS
    makers["offpol, uniform"] = lambda capacity: Offpol(Uniform, capacity)
    contenders = {}
    for name, make in makers.items():
        contenders[name] = filled(make, arguments.capacity, pool)
        print(f"filled: {name} ({resident_gb():.1f} GB so far)", flush=True)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    rng = np.random.default_rng(2)
    for _ in range(arguments.rounds):
        for name, (replay, adders) in contenders.items():
            rounds[name].append(one_round(replay, adders, rng))
    result = table(rounds, base)
    print(f"\n| replay of {arguments.capacity:,} rows | {' | '.join(OPERATIONS)} |\n|---|{'---|' * len(OPERATIONS)}")
    for name, cells in result.items():
        shown = [f"{cell['microseconds']:.1f} ({cell['ratio']:.2f})" for cell in cells.values()]
        print(f"| {name} | {' | '.join(shown)} |")
    if arguments.out:
        about = {"capacity": arguments.capacity, "machine": platform.machine(), "python": platform.python_version()}
        about |= {name: version(name) for name in ("torch", "numpy", "numba", "cpprb", "stable-baselines3", "tianshou")}
        arguments.out.write_text(json.dumps({"about": about, "table": result, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
