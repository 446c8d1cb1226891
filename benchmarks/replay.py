"""What replay costs: processor microseconds of one thread, and bytes per transition.

    python benchmarks/replay.py [--capacity 100000] [--game pong] [--storage memmap]

Real frames of a game played at random (8 envs, 84x84, stack of 4), a ring written all through, priorities that
differ. Operations are interleaved, and the median of several rounds is shown, so that a busy machine disturbs all
alike. `frames` is np.take of all the frames that a batch of 32 shows into kept memory, and nothing else: what a
sample cannot cost less than by much. Where numba is missing (extra `fast`), only the numpy kernels are timed.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from ale_py import AtariVectorEnv

from offpol.memory import kernels, kernels_numpy, tree_kernels_numpy
from offpol.memory.kernels import ACCELERATED
from offpol.replay.prioritized import Prioritized
from offpol.replay.uniform import Uniform
from offpol.schedule import Schedule
from offpol.types import EnvSpec, Rows

ENVS = 8
BETA = Schedule(0.4, 1.0, 1_000_000, 0)


def play(game: str, steps: int) -> list[Rows]:
    """Play at random; rows as an actor logs them."""
    envs = AtariVectorEnv(game, ENVS, num_threads=1)
    actions = envs.single_action_space.n
    rng = np.random.default_rng(0)
    obs, _ = envs.reset(seed=0)
    over = np.zeros(ENVS, bool)
    rows = []
    for step in range(steps):
        action = rng.integers(actions, size=ENVS)
        following, reward, terminated, truncated, _ = envs.step(action)
        log_prob = np.full(ENVS, -np.log(actions), np.float32)
        rows.append(Rows(obs[:, -1].copy(), action, reward.astype(np.float32), terminated, truncated, ~over,
                         log_prob, np.full(ENVS, step)))  # fmt: skip
        obs, over = following, terminated | truncated
    envs.close()
    return rows


FASTEST = (kernels.KERNELS, kernels.TREE_KERNELS)


def build(
    kind: type, capacity: int, window: int, modules: tuple[ModuleType, ModuleType] = FASTEST, storage: str = "memory"
) -> Uniform | Prioritized:
    """Build a replay that runs on the kernels of two modules, the ring's and the tree's."""
    spec = EnvSpec("bench", ENVS, 6, (84, 84), torch.uint8, stack=4)
    arguments: dict = {"storage": storage, "directory": tempfile.gettempdir() if storage == "memmap" else None}
    if kind is Prioritized:
        arguments |= {"alpha": 0.5, "beta": BETA, "epsilon": 1e-6, "new_priority": "max", "uniform_mix": 0.0,
                     "draws": "stratified", "normaliser": "batch"}  # fmt: skip
    replay = kind(capacity, **arguments, spec=spec, window=window, seed=0)
    replay.ring.kernels = modules[0]
    if kind is Prioritized:
        replay.tree._kernels = modules[1]
    return replay


def fill(replay: Uniform | Prioritized, rows: list[Rows]) -> None:
    """Write the whole ring and a bit of it again; give windows priorities that differ."""
    rng = np.random.default_rng(1)
    for step in range(int(1.05 * replay.capacity_rows / ENVS)):
        replay.add(rows[step % len(rows)])
        if step % 8 == 7:
            prioritize(replay, rng)()


def prioritize(replay: Uniform | Prioritized, rng: np.random.Generator, number: int = 32) -> Callable[[], object]:
    """Draw slots whose priorities can be set; return a call that sets them."""
    slots = replay.ring.draw(rng, number)
    index, generation = torch.from_numpy(slots), torch.from_numpy(replay.ring.generation(slots))
    priority = torch.from_numpy(rng.exponential(size=number).astype(np.float32))
    return lambda: replay.update_priorities(index, generation, priority)


def take_frames(replay: Uniform | Prioritized, rng: np.random.Generator, number: int = 32) -> Callable[[], object]:
    """Return a call that copies as many frames as the observations of a batch hold, of windows anywhere."""
    ring = replay.ring
    back = np.arange(ring.window + 1)[:, None] + np.arange(ring.spec.stack)
    out = np.empty((number * back.size, *ring.spec.frame_shape), np.uint8)

    def call() -> None:
        start = rng.integers(ring.size - back.max(), size=(number, 1, 1))
        np.take(ring.frames, (start + back).ravel(), axis=0, out=out, mode="clip")

    return call


def microseconds(call: Callable[[], object], times: int) -> float:
    """Processor time of one call."""
    start = time.process_time_ns()
    for _ in range(times):
        call()
    return (time.process_time_ns() - start) / times / 1000


def measure(replay: Uniform | Prioritized, rows: list[Rows], rounds: int) -> dict[str, float]:
    """Median microseconds by operation, the operations taking turns."""
    rng = np.random.default_rng(2)
    steps = iter(range(10**9))
    timings: dict[str, list[float]] = {}
    frames = take_frames(replay, rng)
    for _ in range(rounds):
        updates = iter([prioritize(replay, rng) for _ in range(100)])
        calls = {
            "add 8 envs": (lambda: replay.add(rows[next(steps) % len(rows)]), 100),
            "frames": (frames, 50),
            "sample 32": (lambda: replay.sample(32), 50),
            "update 32": (lambda updates=updates: next(updates)(), 100),
            "sample 256": (lambda: replay.sample(256), 5),
        }
        for name, (call, times) in calls.items():
            timings.setdefault(name, []).append(microseconds(call, times))
    return {name: float(np.median(values)) for name, values in timings.items()}


def resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--capacity", type=int, default=100_000)
    parser.add_argument("--game", default="pong")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--storage", choices=["memory", "memmap"], default="memory")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = play(arguments.game, 1000)
    if not ACCELERATED:
        print("numba is not installed (extra 'fast'): replay runs on numpy, several times slower.")
    kinds = {"numba": FASTEST} if ACCELERATED else {}
    kinds["numpy"] = (kernels_numpy, tree_kernels_numpy)
    for kind in (Prioritized, Uniform):
        for window in (1, 3, 5):
            for name, modules in kinds.items():
                before = resident()
                replay = build(kind, arguments.capacity, window, modules, arguments.storage)
                fill(replay, rows)
                grown = (resident() - before) / replay.capacity_rows
                result = measure(replay, rows, arguments.rounds)
                shown = "  ".join(f"{key} {value:7.1f}" for key, value in result.items())
                size = replay.ring.frames.nbytes + replay.ring.records.nbytes
                size += replay.tree.nbytes if isinstance(replay, Prioritized) else 0
                print(f"{kind.__name__:12} n={window} {name}  {shown}  bytes per row {size / replay.capacity_rows:.1f}"
                      f" (resident memory grew by {grown:.0f})", flush=True)  # fmt: skip
                del replay


if __name__ == "__main__":
    main()
