"""Uniform replay: every stored window equally often."""

from typing import Literal

import numpy as np
from torch import Tensor

from offpol.memory.kernels_numpy import Ints
from offpol.memory.ring import Ring
from offpol.memory.ring_replay import RingReplay
from offpol.memory.storage import storage_of
from offpol.memory.windows import gather
from offpol.types import Batch, EnvSpec, Rows


class Uniform(RingReplay):
    """Draw windows of n transitions independently, each with probability 1 / N of the N that are drawable.

    One lock makes every method safe to call from several threads.

    Args:
        capacity: rows kept, of all streams together; each stream keeps its newest capacity // num_envs.
        storage: memory, or memmap: the frames lie in a file, and memory holds of them what there is room for.
        directory: of that file; None for the run's.
        spec: what the envs deliver; `spec.num_envs` counts the streams of all actors.
        window: n, the transitions in a window.
        seed: of the draws.
        run_directory: the run's folder.
    """

    def __init__(
        self, capacity: int, storage: Literal["memory", "memmap"], directory: str | None, *, spec: EnvSpec, window: int,
        seed: int, run_directory: str | None = None,
    ) -> None:  # fmt: skip
        ring = Ring(capacity, spec=spec, window=window, storage=storage_of(storage, directory, run_directory))
        super().__init__(ring, seed)

    def add(self, rows: Rows, first_stream: int = 0) -> None:
        """Append one row to each of the streams first_stream .. first_stream + E - 1; see `Ring.add` for errors."""
        with self.lock:
            self.ring.add(rows, first_stream)

    def sample(self, batch_size: int) -> Batch:
        """Draw windows [B] with replacement; RuntimeError where none is drawable. See `gather` for the layout."""
        with self.lock:
            starts, number = self._draw(batch_size)
            probability = np.full(batch_size, 1 / number, np.float32)
            return gather(self.ring, starts, probability, np.ones(batch_size, np.float32))

    def update_priorities(self, index: Tensor, generation: Tensor, priority: Tensor) -> int:
        """Ignore priorities; count the windows [B] that cannot be drawn any more, as `Prioritized` drops them."""
        with self.lock:
            return int(np.count_nonzero(~self.ring.current(index.numpy(force=True), generation.numpy(force=True))))

    def _draw(self, batch_size: int) -> tuple[Ints, int]:
        """Draw slots [B], each with probability 1 / N; return them and N."""
        return self.ring.draw(self.rng, batch_size), self.ring.num_drawable
