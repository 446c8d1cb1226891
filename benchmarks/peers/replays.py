"""Other libraries' replays of Atari frames behind one interface, for `benchmarks/replay_peers.py`.

Each stores the same play of 8 envs, draws 32 one-step windows (observation and next observation, stacks of 4) as the
tensors a learner takes, and sets 32 priorities, which come as a tensor from the learner. What each leaves out is said
beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from cpprb import PrioritizedReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from tianshou.data import Batch, PrioritizedVectorReplayBuffer

from offpol.types import Rows

ENVS, ALPHA, BETA, EPSILON = 8, 0.5, 0.4, 1e-6


class Cpprb:
    """cpprb's prioritized replay of one stream; it knows no truncation, and a late priority lands on the new row.

    Its eight envs are one after the other in its one stream: windows across their borders are wrong, but as fast.
    """

    def __init__(self, capacity: int, **options: Any) -> None:
        self.fields = {"obs": {"shape": (84, 84, 4), "dtype": np.uint8}, "act": {"dtype": np.int64},
                       "rew": {"dtype": np.float32}, "done": {"dtype": np.bool_}}  # fmt: skip
        self.buffer = PrioritizedReplayBuffer(capacity, self.fields, alpha=ALPHA, eps=EPSILON, **options)

    def adder(self, stacks: np.ndarray, following: np.ndarray, rows: Rows) -> Callable[[], object]:
        """Return a call that adds one step of all envs."""
        obs, after = (np.ascontiguousarray(np.moveaxis(x, 1, -1)) for x in (stacks, following))
        return lambda: self.buffer.add(
            obs=obs, next_obs=after, act=rows.action, rew=rows.reward, done=rows.terminated
        )  # fmt: skip

    def sample(self) -> Any:
        return {name: torch.from_numpy(array) for name, array in self.buffer.sample(32, beta=BETA).items()}

    def updater(self, batch: Any, priority: torch.Tensor) -> Callable[[], object]:
        return lambda: self.buffer.update_priorities(batch["indexes"].numpy(), priority.numpy())


class StableBaselines3:
    """stable-baselines3's uniform replay, 8 streams."""

    def __init__(self, capacity: int, optimize_memory_usage: bool) -> None:
        box = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        self.buffer = ReplayBuffer(
            capacity, box, gymnasium.spaces.Discrete(18), n_envs=ENVS, device="cpu",
            optimize_memory_usage=optimize_memory_usage, handle_timeout_termination=not optimize_memory_usage,
        )  # fmt: skip

    def adder(self, stacks: np.ndarray, following: np.ndarray, rows: Rows) -> Callable[[], object]:
        infos: list[dict] = [{}] * ENVS
        return lambda: self.buffer.add(stacks, following, rows.action[:, None], rows.reward, rows.terminated, infos)

    def sample(self) -> Any:
        return self.buffer.sample(32)  # of tensors

    updater = None


class Tianshou:
    """tianshou's prioritized replay, frames once, 8 streams; a late priority lands on the new row."""

    def __init__(self, capacity: int) -> None:
        self.buffer = PrioritizedVectorReplayBuffer(
            capacity, ENVS, alpha=ALPHA, beta=BETA, stack_num=4, ignore_obs_next=True, save_only_last_obs=True
        )

    def adder(self, stacks: np.ndarray, following: np.ndarray, rows: Rows) -> Callable[[], object]:
        step = Batch(
            obs=stacks, act=rows.action, rew=rows.reward, terminated=rows.terminated, truncated=rows.truncated,
            obs_next=following, info={},
        )  # fmt: skip
        streams = np.arange(ENVS)
        return lambda: self.buffer.add(step, buffer_ids=streams)

    def sample(self) -> Any:
        batch, index = self.buffer.sample(32)
        names = ("obs", "obs_next", "act", "rew", "terminated", "weight")
        return {name: torch.from_numpy(batch[name]) for name in names}, index

    def updater(self, batch: Any, priority: torch.Tensor) -> Callable[[], object]:
        return lambda: self.buffer.update_weight(batch[1], priority.numpy())


PEERS: dict[str, Callable[[int], Any]] = {
    "cpprb, next_of and stack_compress": lambda capacity: Cpprb(capacity, next_of="obs", stack_compress="obs"),
    "cpprb, next_of": lambda capacity: Cpprb(capacity, next_of="obs"),
    "stable-baselines3 (uniform)": lambda capacity: StableBaselines3(capacity, optimize_memory_usage=False),
    "stable-baselines3, optimize_memory_usage (uniform)": lambda capacity: StableBaselines3(capacity, True),
    "tianshou, frames once": Tianshou,
}
