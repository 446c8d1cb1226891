"""Monte Carlo returns against a loop over the rewards that followed."""

import numpy as np
import pytest
import torch

from offpol.inspect.monte_carlo import monte_carlo_returns
from offpol.memory.ring import Ring
from offpol.types import EnvSpec, Rows

GAMMA = 0.9


def filled(streams: int, capacity: int, steps: int, seed: int) -> tuple[Ring, list[list[tuple]]]:
    """A ring that has wrapped, and all rows ever added to each stream as (reward, terminated, valid)."""
    spec = EnvSpec("numbers", streams, 2, (1,), torch.float32)
    ring, rng = Ring(capacity * streams, spec=spec, window=2), np.random.default_rng(seed)
    added: list[list[tuple]] = [[] for _ in range(streams)]
    over = np.zeros(streams, bool)
    for _ in range(steps):
        valid, reward = ~over, rng.normal(size=streams).astype(np.float32)
        terminated, truncated = (rng.random(streams) < 0.1) & valid, (rng.random(streams) < 0.1) & valid
        lost_life = (rng.random(streams) < 0.1) & valid  # terminated, but the game goes on
        ring.add(Rows(
            obs=np.zeros((streams, 1), np.float32), action=np.zeros(streams, np.int64), reward=reward,
            terminated=terminated | lost_life, truncated=truncated, valid=valid,
            behavior_log_prob=np.zeros(streams, np.float32), policy_version=np.zeros(streams, np.int64),
        ))  # fmt: skip
        for s in range(streams):
            added[s].append((float(reward[s]), bool(terminated[s] | lost_life[s]), bool(valid[s])))
        over = (terminated | truncated) & ~lost_life
    return ring, added


@pytest.mark.parametrize("seed", range(4))
def test_they_are_the_discounted_rewards_that_followed(seed: int) -> None:
    ring, added = filled(streams=3, capacity=40, steps=100, seed=seed)
    returns, rest = monte_carlo_returns(ring, GAMMA)
    known = 0
    for stream, rows in enumerate(added):
        for k in range(60, 100):
            slot = stream * 40 + k % 40
            if not rows[k][2]:
                assert (returns[slot], rest[slot]) == (0.0, 1.0)
                continue
            total, weight, i = 0.0, 1.0, k
            while weight and i < 100 and rows[i][2]:
                total += weight * rows[i][0]
                weight, i = weight * GAMMA * (not rows[i][1]), i + 1
            assert returns[slot] == pytest.approx(total, abs=1e-12)
            assert rest[slot] == pytest.approx(weight, abs=1e-12)
            known += weight == 0
    assert known > 20


def test_nothing_is_known_of_an_empty_replay() -> None:
    ring, _ = filled(streams=2, capacity=10, steps=0, seed=0)
    returns, rest = monte_carlo_returns(ring, GAMMA)
    assert not returns.any()
    assert (rest == 1).all()
