"""A sliding window over the newest rows, for learners that must stay near on-policy."""

from typing import Literal

import numpy as np

from offpol.memory.kernels_numpy import Ints
from offpol.replay.uniform import Uniform
from offpol.types import EnvSpec


class Recent(Uniform):
    """Draw uniformly among the windows that lie wholly in the newest `newest_rows` rows of each stream.

    Older rows stay stored, up to `capacity`, for whoever learns offline from the finished run. With as many
    rows as a rollout has, and an update ratio to match, it stands for learning without replay (PQN, Gallici et al.
    2025).

    Args:
        capacity: rows kept, of all streams together; each stream keeps its newest capacity // num_envs.
        newest_rows: rows of each stream that are drawn from.
        storage, directory, spec, window, seed, run_directory: as of `Uniform`.

    Raises ValueError where the newest rows could hold no window.
    """

    def __init__(
        self, capacity: int, newest_rows: int, storage: Literal["memory", "memmap"], directory: str | None, *,
        spec: EnvSpec, window: int, seed: int, run_directory: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(capacity, storage, directory, spec=spec, window=window, seed=seed, run_directory=run_directory)
        if newest_rows < window + 3:  # two rows more than a window: bootstrap rows, one of them where a stream was cut
            raise ValueError(
                f"newest_rows={newest_rows} cannot always hold a window of {window} transitions: set it to "
                f"{window + 3} or more."
            )
        self.newest_rows = newest_rows
        self.capacity_rows = min(spec.num_envs * newest_rows, self.ring.size)

    def __len__(self) -> int:
        return len(self._drawable())

    def _draw(self, batch_size: int) -> tuple[Ints, int]:
        self.ring.require_drawable()
        slots = self._drawable()
        if not len(slots):
            raise RuntimeError(
                f"No window of {self.ring.window} transitions lies in the newest {self.newest_rows} rows of a stream: "
                "raise newest_rows."
            )
        return slots[self.rng.integers(len(slots), size=batch_size)], len(slots)

    def _drawable(self) -> Ints:
        start = np.maximum(self.ring.oldest, self.ring.counts - self.newest_rows)
        slots = self.ring.slots(start, self.ring.counts)
        return slots[self.ring.drawable(slots)]
