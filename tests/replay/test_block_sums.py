"""Sums in two levels: the right place for every target, nothing without mass, no drift."""

import math

import numpy as np
import pytest
import torch
from test_sum_tree import HOSTILE

from offpol.memory.block_sums import WIDTH, BlockSums

SIZES = [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 3 * WIDTH + 3]


def sums_of(masses: np.ndarray, **options) -> BlockSums:
    sums = BlockSums(len(masses), torch.device("cpu"), **options)
    sums.load(torch.from_numpy(np.asarray(masses, np.float64)))
    return sums


def found(sums: BlockSums, target: np.ndarray) -> np.ndarray:
    return sums.find(torch.from_numpy(target)).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_finds_what_the_running_sum_says(size):
    """Whole masses make every sum exact, so that each target has one right answer, at the borders too."""
    rng = np.random.default_rng(size)
    masses = rng.integers(0, 4, size).astype(np.float64)
    masses[rng.integers(size)] = 3
    sums, running = sums_of(masses), masses.cumsum()
    target = np.concatenate((np.arange(running[-1]), np.arange(running[-1]) + 0.5))
    target = rng.permutation(target)[:2000]
    assert sums.total == running[-1]
    np.testing.assert_array_equal(found(sums, target), np.searchsorted(running, target, side="right"))


@pytest.mark.parametrize("size", SIZES)
def test_changes_leave_no_trace(size):
    rng = np.random.default_rng(size)
    sums, plain = BlockSums(size, torch.device("cpu"), smallest=True), np.zeros(size)
    for _ in range(100):
        index = rng.permutation(size)[:32]
        mass = rng.exponential(size=len(index)) * 10.0 ** rng.integers(-9, 9, len(index))
        plain[index] = mass * (rng.random(len(index)) < 0.8)
        sums.set(torch.from_numpy(index), torch.from_numpy(plain[index]))
    fresh = sums_of(plain, smallest=True)
    np.testing.assert_array_equal(sums.masses, plain)
    assert torch.equal(sums._sums, fresh._sums)
    assert sums.smallest == fresh.smallest == plain[plain > 0].min(initial=np.inf)
    assert float(sums.total) == pytest.approx(math.fsum(plain), rel=1e-13)
    target = rng.random(500) * float(sums.total)
    np.testing.assert_array_equal(found(sums, target), found(fresh, target))


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_found_is_in_range_and_has_mass(kind, rough, monkeypatch):
    """At and around every border, at the ends and past them; also where running sums fall, as a GPU's may."""
    masses = HOSTILE[kind]
    sums = sums_of(masses)
    if rough:
        cumsum, noise = torch.Tensor.cumsum, torch.Generator().manual_seed(0)

        def falling(values: torch.Tensor, dim: int) -> torch.Tensor:
            running = cumsum(values, dim)
            return running * (1 + 1e-15 * torch.randint(-4, 5, running.shape, generator=noise))

        monkeypatch.setattr(torch.Tensor, "cumsum", falling)
    total = float(sums.total)
    borders = np.concatenate((masses.cumsum(), [0.0, total]))
    target = np.concatenate((borders, np.nextafter(borders, 0), np.nextafter(borders, np.inf), [total * 1.01]))
    where = found(sums, np.random.default_rng(0).permutation(target.clip(0))[:2500])
    assert where.min() >= 0
    assert where.max() < len(masses)
    assert (masses[where] > 0).all()


def test_draws_are_in_proportion():
    rng = np.random.default_rng(3)
    masses = rng.exponential(size=2500) * (rng.random(2500) < 0.7)
    sums = sums_of(masses)
    number = 20_000  # one from each of as many equal parts: every count is exact within 1
    counts = np.zeros(2500)
    for part in np.array_split((np.arange(number) + 0.5) / number * float(sums.total), 10):
        counts += np.bincount(found(sums, part), minlength=2500)
    np.testing.assert_allclose(counts, number * masses / masses.sum(), atol=1.01)


def test_the_smallest_mass_has_to_be_asked_for():
    with pytest.raises(ValueError, match="smallest=True"):
        _ = sums_of(np.ones(3)).smallest
