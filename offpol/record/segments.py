"""Rows of a ring as tensors: all of them, or those added since last time."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from offpol.errors import ConfigError
from offpol.memory.kernels_numpy import Ints
from offpol.memory.ring import RECORD, Ring, are_drawn
from offpol.memory.storage import Storage
from offpol.types import EnvSpec, StateDict

Segment = dict[str, Tensor]
ROW_TYPES = {name: torch.from_numpy(np.empty(0, RECORD[name])).dtype for name in RECORD.names or ()}


def rows_of(replay: StateDict, whose: str) -> list[Segment]:
    """Return the segments of a replay's saved state; raise ConfigError where there are none as offpol's own have."""
    segments: list[Segment] = replay.get("rows", [])
    if not segments or "obs" not in segments[-1]:
        raise ConfigError(
            f"{whose} holds no rows: its replay was left out of it, or does not keep rows as offpol's own do."
        )
    return segments


def require_rows(segments: Sequence[Segment], spec: EnvSpec, whose: str, mu_known: bool = True) -> None:
    """Raise ValueError where rows are none that an actor of the env could have delivered.

    Where mu is not known its logarithm may be NaN.
    """
    for segment in segments:
        number = len(segment["obs"])
        for name, dtype in ROW_TYPES.items():
            if (found := segment[name].dtype) != dtype:
                raise ValueError(f"{whose} has {name} of {found}, but rows have it of {dtype}: convert it.")
            if segment[name].shape != (number,):
                raise ValueError(f"{whose} has {name} {tuple(segment[name].shape)} for {number} frames: put it right.")
        if not number:
            continue
        lowest, highest = int(segment["action"].min()), int(segment["action"].max())
        if lowest < 0 or highest >= spec.num_actions:
            raise ValueError(
                f"{whose} has an action {lowest if lowest < 0 else highest}, but {spec.name} has actions 0 to "
                f"{spec.num_actions - 1}: use data of the same env."
            )
        log_mu = segment["behavior_log_prob"]
        fine = are_drawn(log_mu, segment["valid"])
        if not (fine if mu_known else fine | log_mu.isnan()).all():
            raise ValueError(
                f"{whose} has rows whose behavior_log_prob is no logarithm of the probability of an action that was "
                "taken: it must be finite and at most 0."
            )
        for name in ("reward", "obs"):
            if segment[name].is_floating_point() and not segment[name].isfinite().all():
                raise ValueError(f"{whose} has {name} that is not finite (NaN or infinite): leave these episodes out.")


def rows_since(ring: Ring, counts: Tensor | None = None) -> Segment:
    """Copy the rows that were added since the streams had `counts` [S] rows and are still there.

    `start` and `stop` [S] tell which row numbers of each stream are in it: give `stop` as `counts` next time;
    `oldest` [S] is the oldest row of each stream that the ring still holds, in this segment or an earlier one. The
    fields [K, ...] hold the streams one after the other; `valid_before` [S] is `valid` of row start - 1, as a
    `cut` may have changed it since that row was saved.
    """
    start = ring.oldest if counts is None else np.maximum(ring.oldest, counts.numpy())
    slots = ring.slots(start, ring.counts)
    before = ring.slots(start - 1, start)
    segment = {name: np.take(field, slots, axis=0) for name, field in ring.fields.items()}
    segment |= {"start": start, "stop": ring.counts.copy(), "oldest": ring.oldest}
    segment["valid_before"] = ring.fields["valid"][before]
    return {name: torch.from_numpy(field) for name, field in segment.items()} | {"stack": torch.tensor(ring.spec.stack)}


def load_rows(ring: Ring, segments: Sequence[Segment]) -> None:
    """Replace all rows of a ring by those of segments that `rows_since` made one after the other.

    Segments may be left out from the oldest on while no row of theirs would still be there.

    Raises:
        ValueError: where a segment is of a ring of another shape, or rows are missing; nothing is loaded.
    """
    _check(ring, segments)
    ring.counts[:] = 0
    for segment in segments:
        start, stop = segment["start"].numpy(), segment["stop"].numpy()
        ring.fields["valid"][ring.slots(start - 1, start)] = segment["valid_before"].numpy()
        slots = ring.slots(start, stop)
        for name, field in ring.fields.items():
            field[slots] = segment[name].numpy()
        ring.counts[:] = stop
    ring.num_drawable = int(np.count_nonzero(ring.drawable(np.arange(ring.size))))


def joined(segments: list[Segment], window: int, storage: Storage | None = None) -> Ring:
    """Return a ring of the size of what is stored, with the rows in it; see `Ring` for `storage`."""
    last, streams = segments[-1], len(segments[-1]["stop"])
    rows = max(rows_per_stream(segments), window + int(last["stack"]))
    spec = EnvSpec("saved", streams, 0, tuple(last["obs"].shape[1:]), last["obs"].dtype, stack=int(last["stack"]))
    ring = Ring(rows * streams, spec=spec, window=window, storage=storage)
    load_rows(ring, segments)
    return ring


def rows_per_stream(segments: Sequence[Segment]) -> int:
    """Return how many rows of each stream the ring that the segments were made of still held at the end."""
    return int((segments[-1]["stop"] - segments[-1]["oldest"]).max())


def unbroken_from(segments: Sequence[Segment]) -> Ints:
    """Return the number of the row from which on each stream [S] has every row.

    Between two segments rows of a stream are missing where more came than the ring holds: a segment is kept while any
    stream still has rows of it.
    """
    first, stop = segments[0]["start"].numpy(), segments[0]["stop"].numpy()
    for segment in segments[1:]:
        start = segment["start"].numpy()
        first, stop = np.where(start == stop, first, start), segment["stop"].numpy()
    return first


def _check(ring: Ring, segments: Sequence[Segment]) -> None:
    here = (ring.spec.dtype, ring.spec.frame_shape, ring.spec.stack)
    for segment in segments:
        saved = (segment["obs"].dtype, tuple(segment["obs"].shape[1:]), int(segment["stack"]))
        if saved != here:
            raise ValueError(
                f"The saved frames are (dtype, shape, stack) {saved}, this replay's {here}: load them with the env of "
                "the saved run."
            )
        if len(segment["start"]) != ring.num_streams:
            raise ValueError(
                f"The saved rows come from {len(segment['start'])} streams, this replay has {ring.num_streams}: load "
                "them with as many envs as the saved run had."
            )
    if not segments:  # nothing was saved yet
        return
    first, stop = unbroken_from(segments), segments[-1]["stop"].numpy()
    if (stop - first < np.minimum(stop, ring.rows_per_stream)).any():
        raise ValueError(
            f"Saved rows are missing, as of the newest {ring.rows_per_stream} rows of each stream only those since row "
            f"{first.tolist()} are there: put back every file of checkpoints/segments, as from a copy of the run."
        )
