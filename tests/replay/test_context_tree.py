"""What was never set counts as its neighborhood does: against brute force, both kernels alike bit for bit."""

import math

import numpy as np
import pytest

from offpol.memory import kernels, tree_kernels_numpy
from offpol.memory.context_tree import ContextTree
from offpol.memory.kernels import ACCELERATED

MODULES = [tree_kernels_numpy, kernels.TREE_KERNELS] if ACCELERATED else [tree_kernels_numpy]
SIZES = [1, 7, 8, 9, 63, 64, 65, 513, 1000]
PRIOR = 0.75


def estimated(masses: np.ndarray, prior: float) -> np.ndarray:
    """Fill in unknown masses (NaN): the mean of the positive ones in the smallest block of 8, 64, ... that has any."""
    result, known = masses.copy(), np.nan_to_num(masses)
    for i in np.flatnonzero(np.isnan(masses)):
        width = 8
        while not (known[i - i % width : i - i % width + width] > 0).any() and width < 8 * len(masses):
            width *= 8
        block = known[i - i % width : i - i % width + width]
        result[i] = block.sum() / (block > 0).sum() if (block > 0).any() else prior
    return result


def random_masses(size: int, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers, whose sums are exact; stretches of nothing, of unknown and of known ones."""
    kinds = np.repeat(rng.integers(0, 4, size), rng.integers(1, 20, size))[:size]
    known = rng.integers(1, 9, size).astype(np.float64)
    mixed = np.where(rng.random(size) < 0.5, known, np.nan)
    return np.select([kinds == 0, kinds == 1, kinds == 2], [0.0, np.nan, known], mixed)


def tree_of(masses: np.ndarray, module=kernels.TREE_KERNELS) -> ContextTree:
    tree = ContextTree(len(masses), PRIOR, smallest=True, kernels=module)
    tree.load(masses)
    return tree


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("module", MODULES)
def test_estimates_and_sums_are_those_of_brute_force(module, size):
    rng = np.random.default_rng(size)
    tree = ContextTree(size, PRIOR, smallest=True, kernels=module)
    for masses in [random_masses(size, rng) for _ in range(6)] + [np.full(size, np.nan), np.zeros(size)]:
        tree.load(masses)
        expected = estimated(masses, PRIOR)
        np.testing.assert_array_equal(tree.masses, masses)
        np.testing.assert_array_equal(tree.at(np.arange(size)), expected)
        assert tree.total == pytest.approx(math.fsum(expected), rel=1e-13)
        assert tree.smallest == expected[expected > 0].min(initial=np.inf)


@pytest.mark.parametrize("size", SIZES)
def test_changes_give_the_same_bits_on_both_kernels_and_as_a_new_tree(size):
    rng = np.random.default_rng(size)
    trees = [ContextTree(size, PRIOR, smallest=True, kernels=module) for module in MODULES]
    plain = np.zeros(size)
    for _ in range(200):
        index = rng.integers(size, size=16)
        mass = rng.exponential(size=16) * 10.0 ** rng.integers(-9, 9, 16)
        mass[rng.random(16) < 0.4] = np.nan
        mass[rng.random(16) < 0.2] = 0
        for i, m in zip(index, mass, strict=True):  # of equal indices the last counts
            plain[i] = m
        largest = {tree.set(index, mass) for tree in trees}
        assert largest == {np.nan_to_num(mass).max()}
    for tree in [*trees, *(tree_of(plain, module) for module in MODULES)]:
        np.testing.assert_array_equal(tree._nodes, trees[0]._nodes)
        for stratified in (False, True):
            drawn, first = (t.draw(np.random.default_rng(3), 500, stratified) for t in (tree, trees[0]))
            np.testing.assert_array_equal(drawn, first)
        np.testing.assert_array_equal(tree.at(np.arange(size)), trees[0].at(np.arange(size)))


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("kind", ["mixed", "all unknown", "one known"])
def test_draws_follow_the_estimates(module, kind):
    masses = random_masses(200, np.random.default_rng(5))
    masses = {"mixed": masses, "all unknown": np.where(masses > 3, np.nan, 0.0)}.get(kind, np.full(200, np.nan))
    masses[:1] = 4.0 if kind == "one known" else masses[:1]
    tree, expected = tree_of(masses, module), estimated(masses, PRIOR)
    found, mass = tree.draw(np.random.default_rng(0), 60_000, stratified=False)
    np.testing.assert_array_equal(mass, expected[found])
    share, expected = np.bincount(found, minlength=200) / len(found), expected / expected.sum()
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected / len(found))).all()


@pytest.mark.parametrize("module", MODULES)
def test_what_is_found_is_in_range_and_has_mass_whatever_rounding_does(module):
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e-300, 1e300):
        masses = np.where(rng.random(3000) < 0.01, rng.random(3000) * scale, np.nan)
        masses[rng.random(3000) < 0.3] = 0
        tree = tree_of(masses, module)
        shares = np.concatenate([rng.random(20_000), [0.0, 1.0, np.nextafter(1.0, 0)]])
        found, mass = tree._kernels.context_find(tree._nodes, tree._offsets, shares * tree.total, PRIOR)
        assert found.min() >= 0
        assert found.max() < 3000
        assert (mass > 0).all()
        np.testing.assert_array_equal(mass, tree.at(found))


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("wrong", [-1.0, np.inf, 1.7e308])
def test_impossible_masses_are_refused_and_nothing_changes(module, wrong):
    tree = tree_of(np.arange(20.0), module)
    before = tree._nodes.copy()
    with pytest.raises(ValueError, match="Priorities must be finite"):
        tree.set(np.array([3, 4]), np.array([1.0, wrong]))
    np.testing.assert_array_equal(tree._nodes, before)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_drawn_where_there_is_nothing(module):
    with pytest.raises(RuntimeError, match="set epsilon above 0"):
        tree_of(np.zeros(20), module).draw(np.random.default_rng(0), 1, True)
    with pytest.raises(ValueError, match="smallest=True"):
        _ = ContextTree(3, PRIOR).smallest
