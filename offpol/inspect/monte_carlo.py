"""Monte Carlo returns of the episodes that a replay holds: what really came, as far as it is known."""

from __future__ import annotations

import numpy as np

from offpol.memory.kernels_numpy import Floats
from offpol.memory.ring import Ring

KNOWN = 0.01  # a return counts as known where what comes after the last known reward weighs at most so much


def monte_carlo_returns(ring: Ring, gamma: float) -> tuple[Floats, Floats]:
    """Return, for every slot of a ring, the discounted sum of the rewards that followed, and the weight of the rest.

    Both float64 [size]: G_t = r_t + gamma (1 - terminated) G_{t+1}, and the product of those discounts up to where the
    knowledge ends: 0 for an episode that terminated, gamma^m for one that was cut (truncated, or still going on) after
    m more steps. Rows that are gone by now are not needed: a return only looks forward. Slots without a valid row have
    (0, 1).
    """
    returns, rest = np.zeros(ring.size), np.ones(ring.size)
    for stream in range(ring.num_streams):
        rows = np.arange(ring.oldest[stream], ring.counts[stream])
        slots = ring.slot_of(stream, rows)
        records = ring.records[slots]
        valid = records["valid"]
        follows = np.append(valid[1:], False)[: len(rows)]  # the row after is of the same episode
        discount = gamma * ~records["terminated"] * valid
        carried = discount * follows
        ends = np.where(valid, discount * ~follows, 1.0)
        returns[slots] = _carry_back(np.where(valid, records["reward"], 0.0).astype(np.float64), carried)
        rest[slots] = _carry_back(ends, carried)
    return returns, rest


def _carry_back(own: Floats, carried: Floats) -> Floats:
    """Solve x_k = own_k + carried_k x_{k+1} for all k [K], by doubling: log2(K) passes instead of a loop over rows."""
    value, factor, reach = own.copy(), carried.copy(), 1
    while reach < len(value) and factor.any():
        value[:-reach] += factor[:-reach] * value[reach:]
        factor[:-reach] *= factor[reach:]
        factor[-reach:] = 0.0
        reach *= 2
    return value
