"""The arithmetic of sum trees in numpy. `tree_kernels_numba` does the same, bit for bit, about 10 times faster.

A tree is one float64 array, level after level from the leaves up, 8 children a node; level l begins at `offsets[l]`.
"""

import numpy as np

from offpol.memory.kernels_numpy import Floats, Ints, RingState, ring_masses

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


def tree_prioritize(
    nodes: Floats, offsets: Ints, limit: float, ring: RingState, slots: Ints, generation: Ints, priority: Floats,
    epsilon: float, alpha: float,
) -> tuple[int, float]:  # fmt: skip
    """Set the leaves that are current by `ring_masses`; return how many are, and their largest mass."""
    counts, valid, history, rows, window = ring
    current, mass = ring_masses(counts, valid, history, rows, window, slots, generation, priority, epsilon, alpha)
    return len(current), tree_set(nodes, offsets, current, mass, limit)


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


def tree_find(nodes: Floats, offsets: Ints, target: Floats) -> tuple[Ints, Floats]:
    """Find the leaf in whose stretch of the running sum each target falls, and its mass, which is always positive.

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
    return node, nodes[node]


def tree_draw(nodes: Floats, offsets: Ints, share: Floats, stratified: bool) -> tuple[Ints, Floats]:
    """Find the leaves, and their masses, at shares 0 .. 1 of the sum; stratified: of its i-th of equal parts."""
    if stratified:
        share = (share + np.arange(len(share))) / len(share)
    return tree_find(nodes, offsets, share * nodes[-1])


def context_set(nodes: np.ndarray, offsets: Ints, index: Ints, mass: Floats, limit: float) -> float:
    """Set leaves of a `ContextTree`, NaN for unknown, and renew their ancestors; see `tree_set`."""
    if not (np.isnan(mass) | ((mass >= 0) & (mass <= limit))).all():
        raise ValueError("Priorities must be finite and not too large to be added up: did the loss diverge?")
    node, known = index, np.nan_to_num(mass)
    nodes["total"][node] = nodes["sum"][node] = known
    nodes["known"][node], nodes["unknown"][node] = mass > 0, np.isnan(mass)
    for level in range(1, len(offsets)):
        node = node >> 3
        children, place = nodes[offsets[level - 1] + 8 * node[:, None] + _EIGHT], offsets[level] + node
        nodes["sum"][place] = children["sum"].cumsum(1)[:, -1]
        nodes["known"][place], nodes["unknown"][place] = children["known"].sum(1), children["unknown"].sum(1)
        nodes["total"][place] = _weights(children, _mean(nodes[place], 0.0)).cumsum(1)[:, -1]
    return float(known.max(initial=0.0))


def context_prioritize(
    nodes: np.ndarray, offsets: Ints, limit: float, ring: RingState, slots: Ints, generation: Ints, priority: Floats,
    epsilon: float, alpha: float,
) -> tuple[int, float]:  # fmt: skip
    """Do for a `ContextTree` as `tree_prioritize` does."""
    counts, valid, history, rows, window = ring
    current, mass = ring_masses(counts, valid, history, rows, window, slots, generation, priority, epsilon, alpha)
    return len(current), context_set(nodes, offsets, current, mass, limit)


def context_find(nodes: np.ndarray, offsets: Ints, target: Floats, prior: float) -> tuple[Ints, Floats]:
    """Find the leaf in whose stretch of the running sum each target falls, and its mass or estimate."""
    node, rest, mean = np.zeros(len(target), np.int64), target, np.full(len(target), prior)
    for level in range(len(offsets) - 2, -1, -1):
        mean = _mean(nodes[offsets[level + 1] + node], mean)
        running = _weights(nodes[offsets[level] + 8 * node[:, None] + _EIGHT], mean).cumsum(1)
        rest = np.minimum(rest, np.nextafter(running[:, -1], 0.0))
        child = (running <= rest[:, None]).sum(1)
        rest = rest - np.where(child > 0, running[np.arange(len(child)), child - 1], 0.0)
        node = 8 * node + child
    return node, _mean(nodes[node], mean)


def context_at(nodes: np.ndarray, offsets: Ints, index: Ints, prior: float) -> Floats:
    """Look up masses, estimates where they are unknown."""
    mean: Floats = np.full(len(index), prior)
    for level in range(len(offsets) - 1, -1, -1):
        mean = _mean(nodes[offsets[level] + (index >> 3 * level)], mean)
    leaf = nodes[index]
    return np.where(leaf["known"] + leaf["unknown"] > 0, mean, 0.0)


def _mean(nodes: np.ndarray, otherwise: Floats | float) -> Floats:
    """Average what is known below nodes."""
    return np.where(nodes["known"] > 0, nodes["sum"] / np.maximum(nodes["known"], 1), otherwise)


def _weights(children: np.ndarray, mean: Floats) -> Floats:
    """Weigh the children [B, 8] of nodes whose unknown masses count as `mean` [B]."""
    return np.where(children["known"] > 0, children["total"], children["unknown"] * mean[:, None])
