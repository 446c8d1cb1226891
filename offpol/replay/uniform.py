"""Uniform replay: every stored window equally often."""

import threading
from typing import Literal

import numpy as np
from torch import Tensor

from offpol.memory.ring import Ring
from offpol.memory.storage import allocator
from offpol.memory.windows import gather
from offpol.record.segments import load_rows, rows_since
from offpol.types import Batch, EnvSpec, Rows, StateDict


class Uniform:
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
        allocate = allocator(storage, directory, run_directory)
        self.ring = Ring(capacity, spec=spec, window=window, allocate=allocate)
        self.capacity_rows = self.ring.size
        self._rng = np.random.default_rng(np.random.SeedSequence(seed))
        self._lock = threading.Lock()

    def add(self, rows: Rows, first_stream: int = 0) -> None:
        """Append one row to each of the streams first_stream .. first_stream + E - 1; see `Ring.add` for errors."""
        with self._lock:
            self.ring.add(rows, first_stream)

    def cut(self, stream: int) -> None:
        """End a stream whose env was lost: its newest row becomes a bootstrap row, its next starts anew."""
        with self._lock:
            self.ring.cut(stream)

    def sample(self, batch_size: int) -> Batch:
        """Draw windows [B] with replacement; RuntimeError where none is drawable. See `gather` for the layout."""
        with self._lock:
            starts = self.ring.draw(self._rng, batch_size)
            probability = np.full(batch_size, 1 / self.ring.num_drawable, np.float32)
            return gather(self.ring, starts, probability, np.ones(batch_size, np.float32))

    def update_priorities(self, index: Tensor, generation: Tensor, priority: Tensor) -> int:
        """Ignore priorities; count the windows [B] that cannot be drawn any more, as `Prioritized` drops them."""
        with self._lock:
            return int(np.count_nonzero(~self.ring.current(index.numpy(force=True), generation.numpy(force=True))))

    def __len__(self) -> int:
        return self.ring.num_drawable

    def state_dict(self, since: Tensor | None = None) -> StateDict:
        """Return `rows`, a list of one segment of the ring, and `draws`, everything else.

        For an incremental checkpoint give the last segment's `stop` as `since`, and hand all segments that were
        saved, oldest first, as `rows` to `load_state_dict`.
        """
        with self._lock:
            return {"rows": [rows_since(self.ring, since)], "draws": {"rng": self._rng.bit_generator.state}}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on exactly from where the state was taken; ValueError where it does not fit this replay."""
        with self._lock:
            load_rows(self.ring, state["rows"])
            self._rng.bit_generator.state = state["draws"]["rng"]
