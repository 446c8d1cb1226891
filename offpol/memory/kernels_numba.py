"""The index arithmetic of replay, compiled; needs the extra `fast`. See `kernels_numpy` for what each does.

No kernel holds Python's global lock, so that another thread may act meanwhile; whoever calls locks the replay.
Loops go by `range`: numba's `enumerate` over an array takes several times as long.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offpol.memory.kernels_numpy import Bools, Bytes, Float32s, Floats, Ints


@njit(cache=True, nogil=True)
def replay_weights(
    mass: Floats, total: float, uniform_mix: float, number: int, lowest: float, beta: float
) -> tuple[Float32s, Float32s]:
    probability, weight = np.empty(len(mass), np.float32), np.empty(len(mass), np.float32)
    uniform = uniform_mix / number
    for i in range(len(mass)):
        lowest = min(lowest, mass[i])
    lowest = (1 - uniform_mix) * (lowest / total) + uniform
    for i in range(len(mass)):
        share = (1 - uniform_mix) * (mass[i] / total) + uniform
        probability[i] = share
        weight[i] = (share / lowest) ** -beta
    return probability, weight


@njit(cache=True, nogil=True)
def ring_advance(
    counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, stack: int, first: int,
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
def ring_drawable(counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, slots: Ints) -> Bools:
    result = np.empty(len(slots), np.bool_)
    for i in range(len(slots)):
        generation, age = _whereabouts(counts, rows, slots[i])
        result[i] = generation > 0 and valid[slots[i]] and age >= window and age + history[slots[i]] < rows
    return result


@njit(cache=True, nogil=True)
def ring_current(
    counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, slots: Ints, generation: Ints
) -> Bools:
    result = np.empty(len(slots), np.bool_)
    for i in range(len(slots)):
        slot = slots[i]
        if slot < 0 or slot >= len(valid):
            raise IndexError("an index of update_priorities is no slot of this replay")
        stream = slot // rows
        age = counts[stream] - 1 - (slot - stream * rows) - (generation[i] - 1) * rows  # of the row it was then
        result[i] = generation[i] > 0 and age >= window and valid[slot] and age + history[slot] < rows
    return result


@njit(cache=True, nogil=True)
def ring_masses(
    counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, slots: Ints, generation: Ints,
    priority: Floats, epsilon: float, alpha: float,
) -> tuple[Ints, Floats]:  # fmt: skip
    current = ring_current(counts, valid, history, rows, window, slots, generation)
    kept, mass, number = np.empty(len(slots), np.int64), np.empty(len(slots)), 0
    for i in range(len(slots)):
        if current[i]:
            base = abs(np.float64(priority[i])) + epsilon
            if not base < np.inf:
                raise ValueError("Priorities must be finite: did the loss diverge?")
            kept[number], mass[number] = slots[i], base**alpha if base > 0 else 0.0
            number += 1
    return kept[:number], mass[:number]


@njit(cache=True, nogil=True)
def ring_generation(counts: Ints, rows: int, slots: Ints) -> Ints:
    result = np.empty(len(slots), np.int64)
    for i in range(len(slots)):
        result[i] = _whereabouts(counts, rows, slots[i])[0]
    return result


@njit(cache=True, nogil=True)
def ring_windows(
    counts: Ints, rows: int, stack: int, window: int, starts: Ints, action: Ints, policy_version: Ints,
    reward: Float32s, behavior_log_prob: Float32s, terminated: Bools, truncated: Bools,
    valid: Bools, history: Bytes,
) -> tuple[Ints, Ints, Float32s, Bools, Ints]:  # fmt: skip
    number = len(starts)
    frames, generation = np.empty((window + 1, number, stack), np.int64), np.empty(number, np.int64)
    whole, real = np.empty((2, number, window), np.int64), np.empty((2, number, window), np.float32)
    flags = np.empty((4, number, window), np.bool_)
    for b in range(number):  # by itself, so that the records' first lines are waited for together
        generation[b] = _whereabouts(counts, rows, starts[b])[0]
        flags[2, b, 0] = valid[starts[b]]
    for b in range(number):
        base = starts[b] // rows * rows
        for t in range(window + 1):
            row = starts[b] + t
            slot = row if row < base + rows else row - rows
            for back in range(stack):
                frame = slot - back if slot - back >= base else slot - back + rows
                frames[t, b, stack - 1 - back] = frame if back <= history[slot] else -1
            if t < window:
                whole[0, b, t], whole[1, b, t] = action[slot], policy_version[slot]
                real[0, b, t], real[1, b, t] = reward[slot], behavior_log_prob[slot]
                flags[0, b, t], flags[1, b, t], flags[2, b, t] = terminated[slot], truncated[slot], valid[slot]
            if t > 0:
                flags[3, b, t - 1] = valid[slot]
    return frames, whole, real, flags, generation


def interleave(frames: np.ndarray, index: Ints, out: np.ndarray) -> None:
    if index.shape[-1] == 4 and frames.dtype == np.uint8:
        _interleave_four_bytes(frames, index, out.view(np.uint32)[..., 0])
    else:
        _interleave(frames, index, out)


@njit(cache=True, nogil=True)
def _interleave(frames: np.ndarray, index: Ints, out: np.ndarray) -> None:
    nothing = np.zeros(frames.shape[1], frames.dtype)
    for b in range(index.shape[1]):  # window after window: their rows share frames
        for t in range(index.shape[0]):
            for place in range(index.shape[2]):
                slot = index[t, b, place]
                frame = frames[slot] if slot >= 0 else nothing
                for pixel in range(len(frame)):
                    out[t, b, pixel, place] = frame[pixel]


@njit(cache=True, nogil=True)
def _interleave_four_bytes(frames: Bytes, index: Ints, out: NDArray[np.uint32]) -> None:
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
