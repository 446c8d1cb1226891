"""The replay ratio is exact, whoever counts."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offpol.rate_limiter import RateLimiter


@pytest.mark.parametrize("num_envs", [1, 8, 64])
@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 1.0, 3.7, 8.0])
def test_the_ratio_is_within_one_percent_and_never_ahead(num_envs: int, ratio: float) -> None:
    limiter, updates, most = RateLimiter(ratio, 1000), 0, 0
    for agent_steps in range(0, 50_001, num_envs):
        due = limiter.updates_due(agent_steps, updates)
        most = max(most, due)
        updates += due
        assert updates <= max(0, agent_steps - 1000) * ratio + 1e-6
    assert updates == pytest.approx((50_000 - 1000) * ratio, rel=0.01)
    assert most <= num_envs * ratio + 1  # no burst, not even when learning starts


@given(st.integers(0, 10**12), st.integers(1, 10**4), st.integers(0, 10**6))
def test_exact_in_decimal_at_any_size(agent_steps: int, hundredths: int, starts: int) -> None:
    due = RateLimiter(hundredths / 100, starts).updates_due(agent_steps, 0)
    assert due == max(0, (agent_steps - starts) * Fraction(hundredths, 100)) // 1


def test_a_run_that_goes_on_asks_for_no_burst() -> None:
    limiter = RateLimiter(0.5, 100)
    updates = limiter.updates_due(10_000, 0)
    resumed = RateLimiter(0.5, 100)
    assert resumed.updates_due(10_000, updates) == 0
    assert resumed.updates_due(10_008, updates) == 4


def test_no_updates_before_learning_starts_or_when_ahead() -> None:
    limiter = RateLimiter(2.0, 100)
    assert limiter.updates_due(99, 0) == limiter.updates_due(100, 0) == 0
    assert limiter.updates_due(101, 0) == 2
    assert limiter.updates_due(101, 7) == 0


@pytest.mark.parametrize("ratio", [-0.1, float("inf"), float("nan")])
def test_senseless_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="replay_ratio"):
        RateLimiter(ratio, 0)
