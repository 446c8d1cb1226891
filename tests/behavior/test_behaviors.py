"""Every behavior is a distribution, explores as it says, and what is drawn is what is logged."""

import numpy as np
import pytest
import torch

from offpol.actions import draw, greedy_probs, ladder, mix_uniform
from offpol.behavior.boltzmann import Boltzmann
from offpol.behavior.epsilon_greedy import EpsilonGreedy
from offpol.behavior.epsilon_policy import EpsilonPolicy
from offpol.schedule import Schedule

Q = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])
PI = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.0, 0.9]])


def constant(number: float) -> Schedule:
    return Schedule(number, number, 1, 0)


def test_epsilon_greedy_over_q_splits_ties() -> None:
    probs = EpsilonGreedy("q", constant(0.3), 0.0).probs(Q, PI, 0)
    torch.testing.assert_close(probs, torch.tensor([[0.1, 0.8, 0.1], [0.45, 0.45, 0.1]]))


def test_epsilon_greedy_over_policy() -> None:
    probs = EpsilonGreedy("policy", constant(0.3), 0.0).probs(Q, PI, 0)
    torch.testing.assert_close(probs, torch.tensor([[0.1, 0.1, 0.8], [0.1, 0.1, 0.8]]))


def test_epsilon_policy_mixes_uniform() -> None:
    probs = EpsilonPolicy(constant(0.3), 0.0).probs(Q, PI, 0)
    torch.testing.assert_close(probs, 0.7 * PI + 0.1)


def test_boltzmann_prefers_by_value() -> None:
    probs = Boltzmann(constant(2.0), constant(0.0)).probs(Q, PI, 0)
    weights = np.exp(Q.double().numpy() / 2)
    np.testing.assert_allclose(probs.numpy(), weights / weights.sum(1, keepdims=True), rtol=1e-6)


def test_boltzmann_refuses_temperature_zero() -> None:
    with pytest.raises(ValueError, match="temperature must stay positive"):
        Boltzmann(Schedule(1.0, 0.0, 10, 0), constant(0.0))


@pytest.mark.parametrize("make", [
    lambda epsilon, exponent: EpsilonGreedy("q", epsilon, exponent),
    EpsilonPolicy,
    lambda epsilon, exponent: Boltzmann(constant(1.0), epsilon),
])  # fmt: skip
@pytest.mark.parametrize("ends", [(1.5, 0.1), (1.0, -0.1)])
def test_what_is_no_probability_is_refused(make, ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="epsilon must stay between 0 and 1"):
        make(Schedule(*ends, 100, 0), 0.0)


@pytest.mark.parametrize("exponent", [-1.0, float("inf")])
def test_a_ladder_that_leads_out_of_the_probabilities_is_refused(exponent: float) -> None:
    for make in (lambda e: EpsilonGreedy("q", constant(0.4), e), lambda e: EpsilonPolicy(constant(0.4), e)):
        with pytest.raises(ValueError, match="ladder_exponent must be 0"):
            make(exponent)


def test_a_schedule_has_a_length() -> None:
    with pytest.raises(ValueError, match="over_agent_steps must be 0"):
        Schedule(1.0, 0.0, -1, 0)


def test_ladder_is_ape_x() -> None:
    epsilons = ladder(0.4, 7.0, 5).squeeze(1).double().numpy()
    np.testing.assert_allclose(epsilons, [0.4 ** (1 + 7 * i / 4) for i in range(5)], rtol=1e-6)
    assert ladder(0.4, 7.0, 1).item() == pytest.approx(0.4)


def test_epsilon_follows_the_schedule_in_agent_steps() -> None:
    behavior = EpsilonGreedy("q", Schedule(1.0, 0.1, 100, 0), 0.0)
    assert behavior.probs(Q, PI, 0)[0].tolist() == pytest.approx([1 / 3] * 3)
    assert behavior.probs(Q, PI, 50)[0, 0].item() == pytest.approx(0.55 / 3)
    assert behavior.probs(Q, PI, 10_000)[0, 0].item() == pytest.approx(0.1 / 3)


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.37, 1.0])
def test_distributions_sum_to_one(epsilon: float) -> None:
    values = torch.randn(64, 18, generator=torch.Generator().manual_seed(0))
    for probs in (mix_uniform(greedy_probs(values), epsilon), mix_uniform(values.softmax(-1), epsilon)):
        torch.testing.assert_close(probs.sum(-1), torch.ones(64))
        assert (probs >= 0).all()


def test_draws_follow_the_distribution_and_log_it() -> None:
    """Chi-square over 40,000 draws: 99.9% quantile for 4 degrees of freedom is 18.47."""
    probs = np.array([0.05, 0.4, 0.0, 0.3, 0.15, 0.1], dtype=np.float32)
    count = 40_000
    action, log_prob = draw(np.tile(probs, (count, 1)), np.random.default_rng(7))
    assert log_prob.dtype == np.float32
    np.testing.assert_array_equal(log_prob, np.log(probs[action]))
    seen = np.bincount(action, minlength=6)
    assert seen[2] == 0
    expected = probs[probs > 0] * count
    assert ((seen[probs > 0] - expected) ** 2 / expected).sum() < 18.47


class _EdgeRng:
    """Draws the extremes of [0, 1), where cumulated float mass goes wrong."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self, size: int) -> np.ndarray:
        return np.full(size, self.number)


@pytest.mark.parametrize("number", [0.0, np.nextafter(1.0, 0.0)])
def test_draws_at_the_edges_have_positive_probability(number: float) -> None:
    probs = np.array([[0.0, 0.1, 0.2, 0.7, 0.0], [0.0, 0.0, 1 / 3, 1 / 3, 1 / 3]], dtype=np.float32)
    action, log_prob = draw(probs, _EdgeRng(number))  # type: ignore[arg-type]
    assert np.isfinite(log_prob).all()
    assert (probs[np.arange(2), action] > 0).all()
