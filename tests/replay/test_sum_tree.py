"""The sum tree: exact sums, the right leaf for every target, both kernels alike bit for bit."""

import math

import numpy as np
import pytest

from offpol.memory import kernels, tree_kernels_numpy
from offpol.memory.kernels import ACCELERATED
from offpol.memory.sum_tree import SumTree

MODULES = [tree_kernels_numpy, kernels.TREE_KERNELS] if ACCELERATED else [tree_kernels_numpy]
SIZES = [1, 2, 7, 8, 9, 63, 64, 65, 100, 512, 513, 1000]
both_kernels = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.split("_")[-1])


def tree_of(masses: np.ndarray, module=kernels.TREE_KERNELS, **options) -> SumTree:
    tree = SumTree(len(masses), kernels=module, **options)
    tree.load(np.asarray(masses, np.float64))
    return tree


def find(tree: SumTree, target: np.ndarray) -> np.ndarray:
    """Find indices, and see that the masses that come with them are theirs."""
    found, mass = tree.find(target)
    np.testing.assert_array_equal(mass, tree.masses[found])
    return found


def test_numba_is_there_in_development():
    """The extra `dev` brings it; without it half of these tests would compare numpy with itself."""
    assert ACCELERATED


@both_kernels
@pytest.mark.parametrize("size", SIZES)
def test_finds_what_the_running_sum_says(module, size):
    """Whole masses make every sum exact, so that each target has one right answer, at the borders too."""
    rng = np.random.default_rng(size)
    masses = rng.integers(0, 4, size).astype(np.float64)
    masses[rng.integers(size)] = 3
    tree = tree_of(masses, module)
    running = masses.cumsum()
    target = np.concatenate((np.arange(running[-1]), np.arange(running[-1]) + 0.5))
    assert tree.total == running[-1]
    np.testing.assert_array_equal(find(tree, target), np.searchsorted(running, target, side="right"))


@pytest.mark.parametrize("size", SIZES)
def test_changes_give_the_same_bits_on_both_kernels_and_as_a_new_tree(size):
    """10,000 changes leave no trace: nothing drifts."""
    rng = np.random.default_rng(size)
    trees = [SumTree(size, smallest=True, kernels=module) for module in MODULES]
    plain = np.zeros(size)
    for _ in range(300):
        index = rng.integers(size, size=32)
        mass = rng.exponential(size=32) * 10.0 ** rng.integers(-9, 9, 32) * (rng.random(32) < 0.8)
        for i, m in zip(index, mass, strict=True):  # of equal indices the last counts
            plain[i] = m
        for tree in trees:
            tree.set(index, mass)
    target = rng.random(500) * trees[0].total
    for tree in [*trees, *(tree_of(plain, module, smallest=True) for module in MODULES)]:
        np.testing.assert_array_equal(tree.masses, plain)
        np.testing.assert_array_equal(tree._nodes, trees[0]._nodes)
        assert tree.smallest == plain[plain > 0].min(initial=np.inf)
        assert tree.total == pytest.approx(math.fsum(plain), rel=1e-14)
        np.testing.assert_array_equal(find(tree, target), find(trees[0], target))


HOSTILE = {
    "float32 values": np.random.default_rng(0).random(3000).astype(np.float32).astype(np.float64),
    "tiny beside huge": 10.0 ** np.random.default_rng(1).integers(-300, 300, 3000),
    "mostly nothing": np.where(np.random.default_rng(2).random(3000) < 0.01, 0.1, 0.0),
    "nothing at both ends": np.concatenate((np.zeros(1000), np.full(1000, 0.1), np.zeros(1000))),
    "denormal": np.where(np.arange(3000) % 7 == 3, 5e-324, 0.0),
    "one": np.eye(1, 3000, 1700)[0],
    "thirds": np.full(3000, 1 / 3),
}


@both_kernels
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_found_is_in_range_and_has_mass(module, kind):
    """At and around every border of a node's stretch, at the ends, and past the end."""
    masses = HOSTILE[kind]
    tree = tree_of(masses, module)
    borders = np.concatenate((masses.cumsum(), masses.reshape(-1, 8).sum(1).cumsum(), [0.0, tree.total]))
    target = np.concatenate((borders, np.nextafter(borders, 0), np.nextafter(borders, np.inf), [2 * tree.total]))
    found = find(tree, np.concatenate((target, np.random.default_rng(3).random(20_000) * tree.total)))
    assert found.min() >= 0
    assert found.max() < len(masses)
    assert (masses[found] > 0).all()
    at_total, past = find(tree, np.array([tree.total, np.inf]))
    assert at_total == past == find(tree, np.array([np.nextafter(tree.total, 0)]))[0]


@both_kernels
def test_float32_shares_never_leave_the_tree(module):
    """Random float32 numbers round to 1: the textbook tree then walks off its end (36 of 6 million draws)."""
    tree = tree_of(HOSTILE["float32 values"], module)
    shares = np.float32([1, 1 - 2**-24, 0]).astype(np.float64)
    found = find(tree, shares * tree.total)
    assert found.tolist()[::2] == [2999, 0]
    assert (tree.masses[found] > 0).all()


@both_kernels
def test_rounding_on_the_way_down_does_not_leave_a_node(module):
    """3/2 ulp + 1.5 is a tie and rounds up, and so does the target's rest in the second node: to all of it."""
    masses = np.zeros(24)
    masses[0], masses[8] = 1.5 * 2**-52, 1.5
    assert find(tree_of(masses, module), np.array([1.5 + 2**-52])).tolist() == [8]


@both_kernels
def test_draws_follow_the_masses(module):
    masses = np.array([0.0, 1, 2, 0, 3, 0.5, 0.25, 8, 1e-9, 0, 4])
    tree = tree_of(masses, module)
    found = find(tree, np.random.default_rng(0).random(400_000) * tree.total)
    share = np.bincount(found, minlength=len(masses)) / len(found)
    expected = masses / masses.sum()
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected / len(found))).all()


@both_kernels
@pytest.mark.parametrize("stratified", [False, True])
def test_draws_are_shares_of_the_sum(module, stratified):
    tree = tree_of(np.random.default_rng(0).exponential(size=1000), module)
    found, mass = tree.draw(np.random.default_rng(7), 64, stratified)
    share = np.random.default_rng(7).random(64)
    share = (share + np.arange(64)) / 64 if stratified else share
    np.testing.assert_array_equal(found, find(tree, share * tree.total))
    np.testing.assert_array_equal(mass, tree.masses[found])


@both_kernels
@pytest.mark.parametrize("wrong", [-1e-300, np.nan, np.inf, 1.7e308])
def test_impossible_masses_are_refused_and_nothing_changes(module, wrong):
    tree = tree_of(np.arange(20.0), module)
    before = tree._nodes.copy()
    with pytest.raises(ValueError, match="Priorities must be finite"):
        tree.set(np.array([3, 4]), np.array([1.0, wrong]))
    np.testing.assert_array_equal(tree._nodes, before)


@both_kernels
def test_nothing_is_found_where_there_is_nothing(module):
    tree = tree_of(np.zeros(20), module, smallest=True)
    assert tree.smallest == np.inf
    for draw in (lambda: tree.find(np.zeros(1)), lambda: tree.draw(np.random.default_rng(0), 1, True)):
        with pytest.raises(RuntimeError, match="set epsilon above 0"):
            draw()
    with pytest.raises(ValueError, match="smallest=True"):
        _ = SumTree(3).smallest


def test_memory_per_mass():
    assert SumTree(100_000).nbytes < 9.2 * 100_000
    assert SumTree(100_000, smallest=True).nbytes < 10.4 * 100_000
