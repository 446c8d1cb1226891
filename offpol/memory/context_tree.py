"""A tree of sums in which what was never set counts as its neighborhood does: Reactor's contextual priority tree."""

from types import ModuleType

import numpy as np

from offpol.memory.kernels import TREE_KERNELS
from offpol.memory.kernels_numpy import Floats, Ints
from offpol.memory.sum_tree import Tree, require_mass

# Of the masses below a node: the sum with those estimates that need nothing from further up, the sum and the number
# of those that are known, and the number of those that are not.
NODE = np.dtype([("total", np.float64), ("sum", np.float64), ("known", np.int64), ("unknown", np.int64)])


class ContextTree(Tree):
    """Masses [size], drawn in proportion, some of them unknown (Gruslys et al. 2018).

    A mass is positive, 0 (nothing is there) or NaN (unknown). An unknown one counts as the mean of the positive masses
    in the smallest block around it that has any: the 8 indices i with the same i // 8, else the 64 with the same
    i // 64, and so on; as `prior` while there are none at all. So an estimate follows what its neighbors are set to,
    without being touched. Like `SumTree` it never drifts; setting and drawing take O(log N).

    Args:
        size: how many masses.
        prior: mass of the unknown while nothing is known; may be changed.
        smallest: also keep the smallest mass; a mean is never below what it is the mean of.
        kernels: `offpol.memory.tree_kernels_numba` or `offpol.memory.tree_kernels_numpy`.
    """

    def __init__(self, size: int, prior: float, *, smallest: bool = False, kernels: ModuleType = TREE_KERNELS) -> None:
        super().__init__(size, NODE, smallest, kernels.context_set, kernels.context_prioritize, kernels)
        self.prior = prior

    @property
    def total(self) -> float:
        root = self._nodes[-1]
        return float(root["total"] if root["known"] else root["unknown"] * self.prior)

    @property
    def smallest(self) -> float:
        """The smallest mass, estimates included; infinite where there is none."""
        if self._least is None:
            raise ValueError("This tree does not keep its smallest mass: build it with smallest=True.")
        root = self._nodes[-1]
        return self.prior if root["unknown"] and not root["known"] else float(self._least[-1])

    @property
    def masses(self) -> Floats:
        """All masses [size], NaN where unknown."""
        leaves = self._nodes[: self.size]
        return np.where(leaves["unknown"] > 0, np.nan, leaves["total"])

    def at(self, index: Ints) -> Floats:
        """Return masses [B] at indices [B], estimates where they are unknown."""
        found: Floats = self._kernels.context_at(self._nodes, self._offsets, index, self.prior)
        return found

    def draw(self, rng: np.random.Generator, number: int, stratified: bool) -> tuple[Ints, Floats]:
        """Draw indices [number] in proportion to their masses, and return these, too; as `SumTree.draw`."""
        total = require_mass(self.total)
        share = rng.random(number)
        target = (share + np.arange(number)) / number * total if stratified else share * total
        drawn: tuple[Ints, Floats] = self._kernels.context_find(self._nodes, self._offsets, target, self.prior)
        return drawn
