"""The index arithmetic of replay, compiled; needs the extra `fast`. See `kernels_numpy` for what each does.

No kernel holds Python's global lock, so that another thread may act meanwhile; whoever calls locks the replay.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offpol.kernels_numpy import Bools, Floats, Ints


@njit(cache=True, nogil=True)
def tree_set(nodes: Floats, offsets: Ints, index: Ints, mass: Floats, limit: float) -> float:
    largest = 0.0
    for i in range(len(mass)):
        if not 0.0 <= mass[i] <= limit:
            raise ValueError("Priorities must be finite and not too large to be added up: did the loss diverge?")
        largest = max(largest, mass[i])
    for i in range(len(index)):
        node = index[i]
        nodes[node] = mass[i]
        for level in range(1, len(offsets)):
            node >>= 3
            first = offsets[level - 1] + 8 * node
            total = nodes[first]
            for child in range(first + 1, first + 8):
                total += nodes[child]
            nodes[offsets[level] + node] = total
    return largest


@njit(cache=True, nogil=True)
def tree_least(nodes: Floats, offsets: Ints, least: Floats, index: Ints) -> None:
    internal = offsets[1]
    for i in range(len(index)):
        node = index[i]
        for level in range(1, len(offsets)):
            node >>= 3
            first = offsets[level - 1] + 8 * node
            smallest = np.inf
            for child in range(first, first + 8):
                if level > 1:
                    smallest = min(smallest, least[child - internal])
                elif nodes[child] > 0.0:
                    smallest = min(smallest, nodes[child])
            least[offsets[level] - internal + node] = smallest


@njit(cache=True, nogil=True)
def tree_find(nodes: Floats, offsets: Ints, target: Floats) -> Ints:
    found = np.empty(len(target), np.int64)
    for i in range(len(target)):
        node = 0
        rest = min(target[i], np.nextafter(nodes[-1], 0.0))
        for level in range(len(offsets) - 2, -1, -1):
            child = offsets[level] + 8 * node
            node *= 8
            before, running = 0.0, nodes[child]
            while running <= rest:
                child += 1
                node += 1
                before = running
                running += nodes[child]
            rest -= before
            if rest >= nodes[child]:
                rest = np.nextafter(nodes[child], 0.0)
        found[i] = node
    return found


@njit(cache=True, nogil=True)
def ring_advance(
    counts: Ints, valid: Bools, history: NDArray[np.uint8], rows: int, window: int, stack: int, first: int,
    number: int,
) -> tuple[Ints, Ints, Bools]:  # fmt: skip
    slots = np.empty(number, np.int64)
    changed = np.empty(number * (stack + 1), np.int64)
    alive = np.empty(number * (stack + 1), np.bool_)
    changes = 0
    for i in range(number):
        base = (first + i) * rows
        count = counts[first + i]
        evicted = count - rows
        if evicted >= 0:
            for row in range(evicted, evicted + stack):
                slot = base + row % rows
                if valid[slot] and row - history[slot] == evicted:
                    changed[changes], alive[changes] = slot, False
                    changes += 1
        complete = base + (count - window) % rows
        if count >= window and valid[complete]:
            changed[changes], alive[changes] = complete, True
            changes += 1
        newest = base + (count - 1) % rows
        slots[i] = base + count % rows
        history[slots[i]] = min(history[newest] + 1, stack - 1) if count > 0 and valid[newest] else 0
        counts[first + i] = count + 1
    return slots, changed[:changes], alive[:changes]


@njit(cache=True, nogil=True)
def _whereabouts(counts: Ints, rows: int, slot: int) -> tuple[int, int]:
    """How often a slot was written, and how many rows of its stream are newer."""
    stream = slot // rows
    since = counts[stream] - 1 - (slot - stream * rows)
    return since // rows + 1, since % rows


@njit(cache=True, nogil=True)
def ring_drawable(
    counts: Ints, valid: Bools, history: NDArray[np.uint8], rows: int, window: int, slots: Ints
) -> Bools:
    result = np.empty(len(slots), np.bool_)
    for i, slot in enumerate(slots):
        generation, age = _whereabouts(counts, rows, slot)
        result[i] = generation > 0 and valid[slot] and age >= window and age + history[slot] < rows
    return result


@njit(cache=True, nogil=True)
def ring_current(
    counts: Ints, valid: Bools, history: NDArray[np.uint8], rows: int, window: int, slots: Ints,
    generation: Ints,
) -> Bools:  # fmt: skip
    result = np.empty(len(slots), np.bool_)
    for i, slot in enumerate(slots):
        if slot < 0 or slot >= len(valid):
            raise IndexError("an index of update_priorities is no slot of this replay")
        now, age = _whereabouts(counts, rows, slot)
        same = 0 < now == generation[i]
        result[i] = same and valid[slot] and age >= window and age + history[slot] < rows
    return result


@njit(cache=True, nogil=True)
def ring_generation(counts: Ints, rows: int, slots: Ints) -> Ints:
    result = np.empty(len(slots), np.int64)
    for i, slot in enumerate(slots):
        result[i] = _whereabouts(counts, rows, slot)[0]
    return result


@njit(cache=True, nogil=True)
def ring_windows(
    counts: Ints, history: NDArray[np.uint8], rows: int, stack: int, window: int, starts: Ints
) -> tuple[Ints, Ints, Ints]:
    slots = np.empty((len(starts), window + 1), np.int64)
    frames = np.empty((window + 1, len(starts), stack), np.int64)
    for i in range(len(starts)):
        base = starts[i] // rows * rows
        for t in range(window + 1):
            row = starts[i] - base + t
            slot = base + row % rows
            slots[i, t] = slot
            for back in range(stack):
                kept = back <= history[slot]
                frames[t, i, stack - 1 - back] = base + (row - back) % rows if kept else -1
    return slots, frames, ring_generation(counts, rows, starts)


def interleave(frames: NDArray, index: Ints, out: NDArray) -> None:
    if index.shape[-1] == 4 and frames.dtype == np.uint8:
        _interleave_four_bytes(frames, index, out.view(np.uint32)[..., 0])
    else:
        _interleave(frames, index, out)


@njit(cache=True, nogil=True)
def _interleave(frames: NDArray, index: Ints, out: NDArray) -> None:
    nothing = np.zeros(frames.shape[1], frames.dtype)
    for b in range(index.shape[1]):  # window after window: their rows share frames
        for t in range(index.shape[0]):
            for place in range(index.shape[2]):
                slot = index[t, b, place]
                frame = frames[slot] if slot >= 0 else nothing
                for pixel in range(len(frame)):
                    out[t, b, pixel, place] = frame[pixel]


@njit(cache=True, nogil=True)
def _interleave_four_bytes(frames: NDArray[np.uint8], index: Ints, out: NDArray[np.uint32]) -> None:
    # Four pixels make one little-endian word: this loop is vectorised, single strided bytes are not.
    nothing = np.zeros(frames.shape[1], np.uint8)
    for b in range(index.shape[1]):
        for t in range(index.shape[0]):
            slots, words = index[t, b], out[t, b]
            first = frames[slots[0]] if slots[0] >= 0 else nothing
            second = frames[slots[1]] if slots[1] >= 0 else nothing
            third = frames[slots[2]] if slots[2] >= 0 else nothing
            newest = frames[slots[3]] if slots[3] >= 0 else nothing
            for pixel in range(len(words)):
                low = np.uint32(first[pixel]) | np.uint32(second[pixel]) << np.uint32(8)
                high = np.uint32(third[pixel]) << np.uint32(16) | np.uint32(newest[pixel]) << np.uint32(24)
                words[pixel] = low | high
