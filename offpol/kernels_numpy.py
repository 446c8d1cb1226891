"""The index arithmetic of replay in numpy. `kernels_numba` does the same, bit for bit, about 10 times faster.

Words: a ring has S streams of R rows; a slot is stream * R + position; a stream's row number k lives at
position k mod R and `counts` [S] says how many rows each stream ever got. A tree is one float64 array, level
after level from the leaves up, 8 children a node; level l begins at `offsets[l]`.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_EIGHT = np.arange(8)


def tree_set(nodes: Floats, offsets: Ints, index: Ints, mass: Floats, limit: float) -> float:
    """Set leaves and add up their ancestors anew; of equal indices the last counts. Return the largest new mass.

    Raises ValueError, with nothing changed, where a mass is not within 0 .. limit.
    """
    if not ((mass >= 0) & (mass <= limit)).all():
        raise ValueError("Priorities must be finite and not too large to be added up: did the loss diverge?")
    nodes[index] = mass
    node = index
    for level in range(1, len(offsets)):
        node = node >> 3
        children = nodes[offsets[level - 1] + 8 * node[:, None] + _EIGHT]
        nodes[offsets[level] + node] = children.cumsum(1)[:, -1]  # one after the other, as numba does
    return float(mass.max(initial=0.0))


def tree_least(nodes: Floats, offsets: Ints, least: Floats, index: Ints) -> None:
    """Renew the smallest positive leaf below each ancestor of the leaves; `least` has no level 0."""
    node = index
    for level in range(1, len(offsets)):
        node = node >> 3
        children = offsets[level - 1] + 8 * node[:, None] + _EIGHT
        if level == 1:
            mass = nodes[children]
            smallest = np.where(mass > 0, mass, np.inf).min(1)
        else:
            smallest = least[children - offsets[1]].min(1)
        least[offsets[level] - offsets[1] + node] = smallest


def tree_find(nodes: Floats, offsets: Ints, target: Floats) -> Ints:
    """Find the leaf in whose stretch of the running sum each target falls; its mass is always positive.

    Rounding may push a target past the end of the stretch it fell in; it is then put back inside, so that a
    descent never enters a node without mass (0 <= target < mass of the node holds at every level).
    """
    node = np.zeros(len(target), np.int64)
    rest = np.minimum(target, np.nextafter(nodes[-1], 0.0))
    for level in range(len(offsets) - 2, -1, -1):
        first = offsets[level] + 8 * node
        running = nodes[first[:, None] + _EIGHT].cumsum(1)
        child = (running <= rest[:, None]).sum(1)
        before = np.where(child > 0, running[np.arange(len(child)), child - 1], 0.0)
        node = 8 * node + child
        rest = np.minimum(rest - before, np.nextafter(nodes[first + child], 0.0))
    return node


def ring_advance(
    counts: Ints, valid: Bools, history: NDArray[np.uint8], rows: int, window: int, stack: int, first: int,
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


def ring_drawable(
    counts: Ints, valid: Bools, history: NDArray[np.uint8], rows: int, window: int, slots: Ints
) -> Bools:
    """Tell at which slots a window starts that is valid, complete, and whose frame history is still there."""
    generation, age = _whereabouts(counts, rows, slots)
    return (generation > 0) & valid[slots] & (age >= window) & (age + history[slots] < rows)


def ring_current(
    counts: Ints, valid: Bools, history: NDArray[np.uint8], rows: int, window: int, slots: Ints,
    generation: Ints,
) -> Bools:  # fmt: skip
    """Tell which slots are drawable and still hold the row of that generation; IndexError out of range."""
    if len(slots) and (slots.min() < 0 or slots.max() >= len(valid)):
        raise IndexError("an index of update_priorities is no slot of this replay")
    same = ring_generation(counts, rows, slots) == generation
    return same & ring_drawable(counts, valid, history, rows, window, slots)


def ring_generation(counts: Ints, rows: int, slots: Ints) -> Ints:
    """Count how often each slot was written."""
    return _whereabouts(counts, rows, slots)[0]


def _whereabouts(counts: Ints, rows: int, slots: Ints) -> tuple[Ints, Ints]:
    """How often each slot was written, and how many rows of its stream are newer."""
    stream = slots // rows
    since = counts[stream] - 1 - (slots - stream * rows)
    return since // rows + 1, since % rows


def ring_windows(
    counts: Ints, history: NDArray[np.uint8], rows: int, stack: int, window: int, starts: Ints
) -> tuple[Ints, Ints, Ints]:
    """Look up windows: slots of their rows [B, window + 1], slots of these rows' frames [window + 1, B, stack] with
    -1 for no frame, and generations of the starts [B].
    """
    base = (starts // rows * rows)[:, None]
    row = starts[:, None] - base + np.arange(window + 1)
    slots = base + row % rows
    back = np.arange(stack - 1, -1, -1)
    frames = base.T[..., None] + (row.T[..., None] - back) % rows
    return slots, np.where(back <= history[slots.T][..., None], frames, -1), ring_generation(counts, rows, starts)


def interleave(frames: NDArray, index: Ints, out: NDArray) -> None:
    """Copy frames [N, P] by index [T, B, stack] to the last axis of out [T, B, P, stack]; index -1 gives zeros."""
    for place in range(index.shape[-1]):
        column = index[..., place]
        plane = np.take(frames, column, axis=0, mode="clip")
        plane[column < 0] = 0
        out[..., place] = plane
