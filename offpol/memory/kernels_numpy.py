"""The index arithmetic of replay in numpy. `kernels_numba` does the same, bit for bit, about 10 times faster.

Words: a ring has S streams of R rows; a slot is stream * R + position; a stream's row number k lives at
position k mod R and `counts` [S] says how many rows each stream ever got. The trees' part is `tree_kernels_numpy`.
"""

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
Bytes = NDArray[np.uint8]
RingState = tuple[Ints, Bools, Bytes, int, int]  # counts, valid, history, rows, window


def replay_weights(
    mass: Floats, total: float, uniform_mix: float, number: int, lowest: float, beta: float
) -> tuple[Float32s, Float32s]:
    """Return with which probability masses were drawn, and (probability / lowest probability)^-beta.

    A share `uniform_mix` of the draws is uniform over `number`. The lowest probability is that of the mass `lowest`, or
    of the smallest one here, if that is smaller.
    """
    masses = np.append(mass, min(lowest, mass.min(initial=np.inf)))
    share = (1 - uniform_mix) * (masses / total) + uniform_mix / number
    weight = _power(share[:-1] / share[-1], -beta)
    return share[:-1].astype(np.float32), weight.astype(np.float32)


def _power(base: Floats, exponent: float) -> Floats:
    """Raise to a power by the C library, as numba does: numpy's own differs in the last bit."""
    return np.array([math.pow(number, exponent) for number in base.tolist()])


def ring_advance(
    counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, stack: int, first: int,
    number: int,
) -> tuple[Ints, Ints, Bools]:  # fmt: skip
    """Make room for one row in each of the streams first .. first + number - 1.

    Return the slots to write [number], and the slots whose drawability changes with what it is from now on.
    """
    base = np.arange(first, first + number) * rows
    count = counts[first : first + number]
    slots = base + count % rows
    newest = base + (count - 1) % rows
    goes_on = (count > 0) & valid[newest]

    row = count - rows + np.arange(stack)[:, None]  # the evicted row and those whose history may reach it
    reaching = base + row % rows
    gone = (count >= rows) & valid[reaching] & (row - history[reaching] == count - rows)
    complete = base + (count - window) % rows  # its window ends in the row that is written now
    begun = (count >= window) & valid[complete]

    history[slots] = np.where(goes_on, np.minimum(history[newest].astype(np.int64) + 1, stack - 1), 0)
    count += 1  # a view of counts
    changed = np.concatenate((reaching[gone], complete[begun]))
    alive = np.zeros(len(changed), np.bool_)
    alive[len(changed) - int(begun.sum()) :] = True
    return slots, changed, alive


def ring_drawable(counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, slots: Ints) -> Bools:
    """Tell at which slots a window starts that is valid, complete, and whose frame history is still there."""
    generation, age = _whereabouts(counts, rows, slots)
    return (generation > 0) & valid[slots] & (age >= window) & (age + history[slots] < rows)


def ring_current(
    counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, slots: Ints,
    generation: Ints,
) -> Bools:  # fmt: skip
    """Tell which slots are drawable and still hold the row of that generation; IndexError out of range."""
    if len(slots) and (slots.min() < 0 or slots.max() >= len(valid)):
        raise IndexError("an index of update_priorities is no slot of this replay")
    same: Bools = ring_generation(counts, rows, slots) == generation
    return same & ring_drawable(counts, valid, history, rows, window, slots)


def ring_masses(
    counts: Ints, valid: Bools, history: Bytes, rows: int, window: int, slots: Ints, generation: Ints,
    priority: Floats, epsilon: float, alpha: float,
) -> tuple[Ints, Floats]:  # fmt: skip
    """Return the slots that are current (see `ring_current`), and their masses (|priority| + epsilon)^alpha.

    0^0 is 0 here: what has no priority is not drawn. Raises ValueError where such a priority is not finite.
    """
    current = ring_current(counts, valid, history, rows, window, slots, generation)
    base = np.abs(priority[current].astype(np.float64)) + epsilon
    if not np.isfinite(base).all():
        raise ValueError("Priorities must be finite: did the loss diverge?")
    return slots[current], np.where(base > 0, _power(base, alpha), 0.0)


def ring_generation(counts: Ints, rows: int, slots: Ints) -> Ints:
    """Count how often each slot was written."""
    return _whereabouts(counts, rows, slots)[0]


def _whereabouts(counts: Ints, rows: int, slots: Ints) -> tuple[Ints, Ints]:
    """How often each slot was written, and how many rows of its stream are newer."""
    stream = slots // rows
    since = counts[stream] - 1 - (slots - stream * rows)
    return since // rows + 1, since % rows


def ring_windows(
    counts: Ints, rows: int, stack: int, window: int, starts: Ints, action: Ints, policy_version: Ints,
    reward: Float32s, behavior_log_prob: Float32s, terminated: Bools, truncated: Bools,
    valid: Bools, history: Bytes,
) -> tuple[Ints, Ints, Float32s, Bools, Ints]:  # fmt: skip
    """Copy windows of n = `window` transitions but for their frames.

    Return the slots of the frames [n + 1, B, stack] with -1 for no frame; action and policy_version [2, B, n]; reward
    and behavior_log_prob [2, B, n]; terminated, truncated, valid and the next row's valid [4, B, n]; and the
    generations of the starts [B].
    """
    base = (starts // rows * rows)[:, None]
    row = starts[:, None] - base + np.arange(window + 1)
    slots = base + row % rows
    back = np.arange(stack - 1, -1, -1)
    frames = base.T[..., None] + (row.T[..., None] - back) % rows
    frames = np.where(back <= history[slots.T][..., None], frames, -1)
    here = slots[:, :-1]
    whole, real = np.stack([action[here], policy_version[here]]), np.stack([reward[here], behavior_log_prob[here]])
    flags = np.stack([terminated[here], truncated[here], valid[here], valid[slots[:, 1:]]])
    return frames, whole, real, flags, ring_generation(counts, rows, starts)


def interleave(frames: np.ndarray, index: Ints, out: np.ndarray) -> None:
    """Copy frames [N, P] by index [T, B, stack] to the last axis of out [T, B, P, stack]; index -1 gives zeros."""
    for place in range(index.shape[-1]):
        column = index[..., place]
        plane = np.take(frames, column, axis=0, mode="clip")
        plane[column < 0] = 0
        out[..., place] = plane
