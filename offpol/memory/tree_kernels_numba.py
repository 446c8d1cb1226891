"""The arithmetic of sum trees, compiled; needs the extra `fast`. See `tree_kernels_numpy` for what each does."""

import numpy as np
from numba import njit

from offpol.memory.kernels_numba import ring_masses
from offpol.memory.kernels_numpy import Floats, Ints, RingState


@njit(cache=True, nogil=True)
def tree_set(nodes: Floats, offsets: Ints, index: Ints, mass: Floats, limit: float) -> float:
    largest = 0.0
    for i in range(len(mass)):
        if not 0.0 <= mass[i] <= limit:
            raise ValueError("Priorities must be finite and not too large to be added up: did the loss diverge?")
        largest = max(largest, mass[i])
    for i in range(len(index)):
        nodes[index[i]] = mass[i]
    for level in range(1, len(offsets)):  # level by level, so that the lines of all indices are waited for together
        below, own = offsets[level - 1], offsets[level]
        for i in range(len(index)):
            node = index[i] >> (3 * level)
            first = below + 8 * node
            total = nodes[first]
            for child in range(first + 1, first + 8):
                total += nodes[child]
            nodes[own + node] = total
    return largest


@njit(cache=True, nogil=True)
def tree_prioritize(
    nodes: Floats, offsets: Ints, limit: float, ring: RingState, slots: Ints, generation: Ints, priority: Floats,
    epsilon: float, alpha: float,
) -> tuple[int, float]:  # fmt: skip
    counts, valid, history, rows, window = ring
    current, mass = ring_masses(counts, valid, history, rows, window, slots, generation, priority, epsilon, alpha)
    return len(current), tree_set(nodes, offsets, current, mass, limit)


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
def tree_find(nodes: Floats, offsets: Ints, target: Floats) -> tuple[Ints, Floats]:
    found, rest = np.zeros(len(target), np.int64), np.empty(len(target))
    for i in range(len(target)):
        rest[i] = min(target[i], np.nextafter(nodes[-1], 0.0))
    for level in range(len(offsets) - 2, -1, -1):
        for i in range(len(target)):  # without branches, so that the memory these are read from is waited for together
            first = offsets[level] + 8 * found[i]
            child, before, running = 0, 0.0, 0.0
            for c in range(8):
                running += nodes[first + c]
                passed = running <= rest[i]
                child += passed
                before = running if passed else before
            found[i] = 8 * found[i] + child
            rest[i] = min(rest[i] - before, np.nextafter(nodes[first + child], 0.0))
    for i in range(len(target)):
        rest[i] = nodes[found[i]]
    return found, rest


@njit(cache=True, nogil=True)
def tree_draw(nodes: Floats, offsets: Ints, share: Floats, stratified: bool) -> tuple[Ints, Floats]:
    number = len(share)
    target = np.empty(number)
    for i in range(number):
        target[i] = ((share[i] + i) / number if stratified else share[i]) * nodes[-1]
    return tree_find(nodes, offsets, target)


@njit(cache=True, nogil=True)
def context_set(nodes: np.ndarray, offsets: Ints, index: Ints, mass: Floats, limit: float) -> float:
    largest = 0.0
    for i in range(len(mass)):
        if not (np.isnan(mass[i]) or 0.0 <= mass[i] <= limit):
            raise ValueError("Priorities must be finite and not too large to be added up: did the loss diverge?")
        largest = mass[i] if mass[i] > largest else largest
    for i in range(len(index)):
        node = index[i]
        nodes[node].total = nodes[node].sum = mass[i] if mass[i] > 0 else 0.0
        nodes[node].known, nodes[node].unknown = mass[i] > 0, np.isnan(mass[i])
        for level in range(1, len(offsets)):
            node >>= 3
            first = offsets[level - 1] + 8 * node
            parent = nodes[offsets[level] + node]
            parent.sum, parent.known, parent.unknown = 0.0, 0, 0
            for child in range(first, first + 8):
                parent.sum += nodes[child].sum
                parent.known += nodes[child].known
                parent.unknown += nodes[child].unknown
            mean = parent.sum / max(parent.known, 1)
            parent.total = 0.0
            for child in range(first, first + 8):
                parent.total += nodes[child].total if nodes[child].known > 0 else nodes[child].unknown * mean
    return largest


@njit(cache=True, nogil=True)
def context_prioritize(
    nodes: np.ndarray, offsets: Ints, limit: float, ring: RingState, slots: Ints, generation: Ints, priority: Floats,
    epsilon: float, alpha: float,
) -> tuple[int, float]:  # fmt: skip
    counts, valid, history, rows, window = ring
    current, mass = ring_masses(counts, valid, history, rows, window, slots, generation, priority, epsilon, alpha)
    return len(current), context_set(nodes, offsets, current, mass, limit)


@njit(cache=True, nogil=True)
def context_find(nodes: np.ndarray, offsets: Ints, target: Floats, prior: float) -> tuple[Ints, Floats]:
    found, mass = np.empty(len(target), np.int64), np.empty(len(target))
    running = np.empty(9)
    for i in range(len(target)):
        node, rest, mean = 0, target[i], prior
        for level in range(len(offsets) - 2, -1, -1):
            parent, first = nodes[offsets[level + 1] + node], offsets[level] + 8 * node
            mean = parent.sum / parent.known if parent.known > 0 else mean
            running[0] = 0.0
            for c in range(8):
                child = nodes[first + c]
                running[c + 1] = running[c] + (child.total if child.known > 0 else child.unknown * mean)
            rest = min(rest, np.nextafter(running[8], 0.0))
            c = 0
            while running[c + 1] <= rest:
                c += 1
            rest -= running[c]
            node = 8 * node + c
        found[i], mass[i] = node, nodes[node].total if nodes[node].known > 0 else mean
    return found, mass


@njit(cache=True, nogil=True)
def context_at(nodes: np.ndarray, offsets: Ints, index: Ints, prior: float) -> Floats:
    mass = np.empty(len(index))
    for i in range(len(index)):
        node, level = index[i], 0
        if nodes[node].unknown:
            while nodes[offsets[level] + node].known == 0 and level + 1 < len(offsets):
                node, level = node >> 3, level + 1
        block = nodes[offsets[level] + node]
        mass[i] = block.sum / block.known if block.known > 0 else prior * nodes[index[i]].unknown
    return mass
