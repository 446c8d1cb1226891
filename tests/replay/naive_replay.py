"""Streams as an actor sees them, and a replay that keeps everything: the oracle of the replay tests."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

from offpol.types import Batch, EnvSpec, Rows

FIELDS = ("action", "reward", "terminated", "truncated", "behavior_log_prob", "policy_version")


def spec_of(streams: int, stack: int, shape: tuple[int, ...] = (3, 2), dtype: torch.dtype = torch.uint8) -> EnvSpec:
    return EnvSpec("naive", streams, 5, shape, dtype, stack)


class NaiveEnv:
    """One stream with NEXT_STEP autoreset: random frames, episodes of given lengths, lost lives in between."""

    def __init__(self, spec: EnvSpec, lengths: list[int], rng: np.random.Generator, lives: float = 0.2) -> None:
        self.spec, self.lengths, self.rng, self.lives = spec, lengths, rng, lives
        self.rows = 0
        self.restart()

    def restart(self) -> None:
        self.length = self.lengths[int(self.rng.integers(len(self.lengths)))]
        self.frames = [self._frame()]

    def step(self) -> SimpleNamespace:
        """Return the next row, with the whole observation `stacked` and the number of its real frames."""
        over = len(self.frames) > self.length
        ends = len(self.frames) == self.length
        kind = int(self.rng.integers(3))  # terminated, truncated or both
        row = SimpleNamespace(
            obs=self.frames[-1], stacked=self._stacked(), real=min(len(self.frames), self.spec.stack), valid=not over,
            action=int(self.rng.integers(5)), reward=float(np.float32(self.rng.normal())),
            terminated=bool((ends and kind != 1) or (not ends and not over and self.rng.random() < self.lives)),
            truncated=bool(ends and kind != 0), behavior_log_prob=float(np.float32(-self.rng.random())),
            policy_version=self.rows,
        )  # fmt: skip
        self.rows += 1
        if over:
            self.restart()
        else:
            self.frames.append(self._frame())
        return row

    def _frame(self) -> np.ndarray:
        if self.spec.dtype == torch.uint8:
            return self.rng.integers(1, 256, self.spec.frame_shape, dtype=np.uint8)
        return self.rng.normal(size=self.spec.frame_shape).astype(np.float32)

    def _stacked(self) -> np.ndarray:
        if self.spec.stack == 1:
            return self.frames[-1]
        shown = self.frames[-self.spec.stack :]
        return np.stack([np.zeros_like(shown[0])] * (self.spec.stack - len(shown)) + shown)


def as_rows(rows: list[SimpleNamespace]) -> Rows:
    kinds = {"action": np.int64, "reward": np.float32, "behavior_log_prob": np.float32, "policy_version": np.int64}
    return Rows(*(np.array([getattr(row, name) for row in rows], kinds.get(name)) for name in Rows._fields))


@dataclass
class NaiveReplay:
    """Keeps every row of every stream for ever, and knows from the outside which of them a ring still has."""

    spec: EnvSpec
    window: int
    rows_per_stream: int
    streams: list[list[SimpleNamespace]] = field(init=False)

    def __post_init__(self) -> None:
        self.streams = [[] for _ in range(self.spec.num_envs)]

    def add(self, rows: list[SimpleNamespace], first: int) -> None:
        for stream, row in enumerate(rows, first):
            self.streams[stream].append(row)

    def cut(self, stream: int) -> None:
        if self.streams[stream]:
            self.streams[stream][-1].valid = False

    def drawable(self) -> list[tuple[int, int]]:
        """(stream, row number) of every window that must be drawable."""
        found = []
        for stream, rows in enumerate(self.streams):
            oldest = max(0, len(rows) - self.rows_per_stream)
            starts = range(oldest, len(rows) - self.window)
            found += [(stream, k) for k in starts if rows[k].valid and k - (rows[k].real - 1) >= oldest]
        return found

    def slot(self, stream: int, k: int) -> int:
        return stream * self.rows_per_stream + k % self.rows_per_stream

    def slots(self) -> list[int]:
        return sorted(self.slot(*at) for at in self.drawable())

    def row_at(self, slot: int) -> tuple[int, int]:
        """Stream and number of the row that a slot holds now."""
        stream, position = divmod(slot, self.rows_per_stream)
        newest = len(self.streams[stream]) - 1
        return stream, newest - (newest - position) % self.rows_per_stream

    def generation(self, slot: int) -> int:
        return self.row_at(slot)[1] // self.rows_per_stream + 1

    def check(self, batch: Batch) -> None:
        """Compare every field of every window of a batch, bit for bit."""
        n, drawable = self.window, set(self.drawable())
        for b, slot in enumerate(batch.index.tolist()):
            stream, k = self.row_at(slot)
            rows = self.streams[stream][k : k + n + 1]
            assert (stream, k) in drawable
            assert len(rows) == n + 1
            np.testing.assert_array_equal(batch.obs[b].numpy(), np.stack([row.stacked for row in rows]))
            for name in FIELDS:
                assert getattr(batch, name)[b].tolist() == [getattr(row, name) for row in rows[:n]], name
            assert batch.valid[b].tolist() == [row.valid for row in rows[:n]]
            assert batch.valid_next[b].tolist() == [row.valid for row in rows[1:]]
            assert batch.generation[b] == self.generation(slot)


def chi_square_p(counts: np.ndarray, probability: np.ndarray) -> float:
    """p-value of draws `counts` under `probability` (Pearson); bins that expect nothing must be empty."""
    expected = counts.sum() * probability
    assert counts[expected == 0].sum() == 0
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = float(((counts - expected) ** 2 / expected).sum())
    half = torch.tensor([(len(counts) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))
