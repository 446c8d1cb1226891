"""The rows of many streams in one ring each: frames stored once, windows drawable wherever they are whole."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch

from offpol.memory.kernels import KERNELS
from offpol.memory.kernels_numpy import Bools, Ints
from offpol.memory.storage import InMemory, Storage
from offpol.types import EnvSpec, Rows

# What a row stores beside its frame, in one half of a cache line: drawn rows lie anywhere in memory, and each
# line that must be fetched costs more than the copying. Without gaps: `DeviceRing` splits it by bytes.
RECORD = np.dtype({
    "names": ["action", "policy_version", "reward", "behavior_log_prob", "terminated", "truncated", "valid", "history"],
    "formats": [np.int64, np.int64, np.float32, np.float32, np.bool_, np.bool_, np.bool_, np.uint8],
    "itemsize": 32,
})  # fmt: skip


def are_drawn(log_prob: Any, valid: Any) -> Any:
    """Tell which rows [...] have a log-probability that an action can be drawn with, or none and are not valid.

    False for NaN; a probability may round past 1. Arrays or tensors.
    """
    return ((log_prob > -np.inf) | ~valid) & (log_prob <= 1e-4)


class Ring:
    """The newest rows of `spec.num_envs` streams, `rows_per_stream` (R) of each, in preallocated memory.

    Row number k of a stream lies in slot `stream * R + k % R`. `fields` holds one numpy array [streams * R, ...]
    for each field of `Rows`, and `history`: how many earlier frames belong to a row's stack. Frames of another
    episode do not, so it is 0 for a stream's first row and after each row with `valid` False, and at most
    stack - 1. A window starting at row k is *drawable* iff row k is valid, rows k .. k + window are written and the
    oldest frame of its stack is not overwritten yet.

    Not safe for threads by itself: the replay that owns it locks.

    Args:
        capacity: rows of all streams together; what does not divide by the number of streams is left out.
        spec: shape and dtype of a frame, the stack and the number of streams.
        window: n, the transitions in a window.
        kernels: `offpol.memory.kernels_numba` or `offpol.memory.kernels_numpy`.
        storage: where the frames lie; None: in memory.

    Raises:
        ValueError: where a stream's share of the capacity could not hold one window.
    """

    def __init__(
        self, capacity: int, *, spec: EnvSpec, window: int, kernels: ModuleType = KERNELS,
        storage: Storage | None = None,
    ) -> None:  # fmt: skip
        streams, needed = spec.num_envs, window + spec.stack
        if window < 1:
            raise ValueError(f"window={window} must be at least 1 transition.")
        if capacity // streams < needed:
            raise ValueError(
                f"capacity={capacity} gives each of {streams} streams {capacity // streams} rows, but a window of "
                f"{window} with a stack of {spec.stack} needs {needed}: set capacity to {needed * streams} or more."
            )
        self.spec, self.window, self.kernels = spec, window, kernels
        self.num_streams, self.rows_per_stream = streams, capacity // streams
        self.size = streams * self.rows_per_stream
        self.counts = np.zeros(streams, np.int64)  # rows ever added, by stream
        self.num_drawable = 0
        self.storage = storage or InMemory()
        self.frames = self.storage.zeros((self.size, *spec.frame_shape), torch.empty(0, dtype=spec.dtype).numpy().dtype)
        self.records = np.zeros(self.size, RECORD)
        self.fields = {"obs": self.frames, **{name: self.records[name] for name in RECORD.names or ()}}
        self.columns = tuple(self.records[name] for name in RECORD.names or ())
        self.state = (self.counts, self.fields["valid"], self.fields["history"], self.rows_per_stream, window)

    # ------------------------------------------------------------------------------------ writing

    def add(self, rows: Rows, first_stream: int = 0) -> tuple[Ints, Bools]:
        """Copy one row to each of the streams first_stream .. first_stream + E - 1.

        Return the slots whose drawability changed and what it is now.

        Raises:
            ValueError: where a field has the wrong shape or dtype, a stream does not exist, or a valid row comes
                without the log-probability of its action, any row with NaN for it; nothing is written.
        """
        self._check(rows, first_stream)
        slots, changed, drawable = self.kernels.ring_advance(
            *self.state, self.spec.stack, first_stream, len(rows.valid)
        )
        for name, values in zip(Rows._fields, rows, strict=True):
            self.fields[name][slots] = values
        begun = int(np.count_nonzero(drawable))
        self.num_drawable += 2 * begun - len(changed)
        return changed, drawable

    def cut(self, stream: int) -> None:
        """Make the newest row of a stream a bootstrap row (`valid` False): the next row starts an episode.

        No window starting there was drawable yet, as a window needs at least one row after its first.
        """
        if not 0 <= stream < self.num_streams:
            raise ValueError(f"stream={stream} does not exist: this replay has streams 0 to {self.num_streams - 1}.")
        if self.counts[stream]:
            self.fields["valid"][self.newest(np.array([stream]))] = False

    def _check(self, rows: Rows, first_stream: int) -> None:
        number = len(rows.valid)
        if first_stream < 0 or first_stream + number > self.num_streams:
            raise ValueError(
                f"Rows for streams {first_stream} to {first_stream + number - 1} were added to a replay with streams "
                f"0 to {self.num_streams - 1}: its spec's num_envs must count the envs of all actors."
            )
        for name, values in zip(Rows._fields, rows, strict=True):
            field = self.fields[name]
            if values.dtype != field.dtype or values.shape != (number, *field.shape[1:]):
                raise ValueError(
                    f"Rows.{name} must be {field.dtype} of shape {(number, *field.shape[1:])}, "
                    f"not {values.dtype} of shape {values.shape}."
                )
        if not are_drawn(rows.behavior_log_prob, rows.valid).all():
            raise ValueError(
                f"Rows.behavior_log_prob must be the log-probability of the action drawn in every valid row, and "
                f"no NaN in any, got {rows.behavior_log_prob}."
            )

    # ------------------------------------------------------------------------------------- asking

    @property
    def oldest(self) -> Ints:
        """The number of the oldest row that is still there, of each stream [S]."""
        return np.maximum(self.counts - self.rows_per_stream, 0)

    @property
    def written(self) -> Ints:
        """The slots of all rows that are still there, stream after stream, the oldest row first."""
        return self.slots(self.oldest, self.counts)

    def newest(self, streams: Ints) -> Ints:
        """Return the slots of the newest rows of streams [B] that have any."""
        return self.slot_of(streams, self.counts[streams] - 1)

    def slot_of(self, stream: Ints | int, row: Ints) -> Ints:
        """Return the slots of rows by stream and number, which are broadcast together."""
        return stream * self.rows_per_stream + row % self.rows_per_stream

    def window_slots(self, starts: Ints, n: int) -> Ints:
        """Return the slots [B, n+1] of the rows of windows of n transitions that start at slots [B]."""
        stream, position = np.divmod(starts[:, None], self.rows_per_stream)
        return self.slot_of(stream, position + np.arange(n + 1))

    def slots(self, start: Ints, stop: Ints) -> Ints:
        """List the slots of rows start .. stop - 1 of each stream [S], stream after stream."""
        length = stop - start
        stream = np.repeat(np.arange(self.num_streams), length)
        row = np.arange(length.sum()) + np.repeat(start - (np.cumsum(length) - length), length)
        return self.slot_of(stream, row)

    def generation(self, slots: Ints) -> Ints:
        """Count how often slots [B] were written."""
        result: Ints = self.kernels.ring_generation(self.counts, self.rows_per_stream, slots)
        return result

    def drawable(self, slots: Ints) -> Bools:
        """Tell at which slots [B] a window can be drawn."""
        result: Bools = self.kernels.ring_drawable(*self.state, slots)
        return result

    def current(self, slots: Ints, generation: Ints) -> Bools:
        """Tell which slots [B] are drawable and still hold the row of that generation [B].

        Raises:
            IndexError: where a slot does not exist.
        """
        result: Bools = self.kernels.ring_current(*self.state, slots, generation)
        return result

    def draw(self, rng: np.random.Generator, number: int) -> Ints:
        """Draw drawable slots [number], independently and each with probability 1 / num_drawable.

        Raises:
            RuntimeError: where nothing is drawable.
        """
        self.require_drawable()
        span = min(int(self.counts.max()), self.rows_per_stream)
        written = span * self.num_streams
        if 16 * self.num_drawable < written:  # throwing the others away would take too long
            slots = np.flatnonzero(self.drawable(np.arange(self.size)))
            return slots[rng.integers(len(slots), size=number)]
        drawn = np.empty(0, np.int64)
        while missing := number - len(drawn):
            tries = missing * written // self.num_drawable + 4
            stream, position = np.divmod(rng.integers(written, size=tries), span)
            slots = stream * self.rows_per_stream + position
            drawn = np.concatenate((drawn, slots[self.drawable(slots)][:missing]))
        return drawn

    def require_drawable(self) -> None:
        """Raise RuntimeError, saying how many rows are missing, where nothing is drawable."""
        if self.num_drawable:
            return
        row = self.counts[:, None] - self.window + np.arange(self.window)  # starts that wait for more rows
        waiting = (row >= 0) & self.fields["valid"][self.slot_of(np.arange(self.num_streams)[:, None], row)]
        missing = np.where(waiting, 1 + np.arange(self.window), self.window + 1).min()
        raise RuntimeError(
            f"No window of {self.window} transitions can be drawn yet: at least {missing} more rows of one stream are "
            f"needed (rows so far, by stream: {self.counts.tolist()})."
        )
