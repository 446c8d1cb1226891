"""Every other policy against loops in plain float64 Python."""

import math
from dataclasses import replace

import pytest
import torch
from policy_cases import random_inputs

from offpol.policy.behavior_cloning import BehaviorCloning
from offpol.policy.cmpo import CMPO
from offpol.policy.mpo import MPO
from offpol.policy.munchausen import Munchausen
from offpol.policy.policy_gradient import PolicyGradient
from offpol.policy.softmax_q import SoftmaxQ
from offpol.types import PolicyInputs

ROWS, ACTIONS = 40, 5


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    exps = [math.exp(x - top) for x in logits]
    return [x / sum(exps) for x in exps]


def row(inputs: PolicyInputs, m: int) -> tuple:
    """pi, pi', Q, V, a, mu, G and A of one row, as plain numbers."""
    pi, prior, q = softmax(inputs.logits[m].tolist()), inputs.pi[m].tolist(), inputs.q_values[m].tolist()
    v = sum(p * x for p, x in zip(prior, q, strict=True))
    return (
        pi, prior, q, v, inputs.action[m].item(), math.exp(inputs.log_mu[m]), inputs.returns[m].item(),
        inputs.advantage[m].item(),
    )  # fmt: skip


def check_gradient(policy, inputs: PolicyInputs, oracle) -> torch.Tensor:
    """Compare the gradient of every row with oracle(row) -> d objective / d log pi(a), chained through softmax."""
    loss, _ = policy.loss(inputs)
    (grad,) = torch.autograd.grad(loss.sum(), inputs.logits)
    for m in range(ROWS):
        slopes = oracle(*row(inputs, m))
        pi = softmax(inputs.logits[m].tolist())
        want = [-(s - p * sum(slopes)) for s, p in zip(slopes, pi, strict=True)]
        assert max(abs(a - b) for a, b in zip(grad[m].tolist(), want, strict=True)) < 1e-9
    return loss.detach()


def test_softmax_q() -> None:
    q = torch.tensor([[0.1, 0.2, -0.3], [1e4, 0.0, -1e4]])
    got = SoftmaxQ(0.5, False).probs(q, q)
    want = [softmax([x / 0.5 for x in values]) for values in q.tolist()]
    torch.testing.assert_close(got, torch.tensor(want), rtol=0, atol=1e-12)


@pytest.mark.parametrize("correction", ["none", "vtrace"])
def test_normalised_advantages_have_mean_0_and_deviation_1_over_the_rows_that_count(correction: str) -> None:
    inputs = random_inputs()
    counted = [inputs.advantage[m].item() for m in range(ROWS) if inputs.share[m]]
    mean = sum(counted) / len(counted)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in counted) / len(counted)) + 1e-8

    def oracle(pi, prior, q, v, a, mu, g, advantage):
        rho = 1.0 if correction == "none" else min(1.3, pi[a] / mu)
        return [rho * (advantage - mean) / deviation if i == a else 0.0 for i in range(ACTIONS)]

    check_gradient(PolicyGradient(correction, 1.3, 0.0, True), inputs, oracle)


def test_behavior_cloning() -> None:
    inputs = random_inputs()

    def oracle(pi, prior, q, v, a, mu, g, advantage):
        return [float(i == a) for i in range(ACTIONS)]

    loss = check_gradient(BehaviorCloning(), inputs, oracle)
    for m in range(ROWS):
        pi, a = row(inputs, m)[0], inputs.action[m].item()
        assert loss[m].item() == pytest.approx(-math.log(pi[a]), abs=1e-9)


@pytest.mark.parametrize("gradient", [0.0, 0.7])
@pytest.mark.parametrize("clip", [0.5, 1.0, 2.0])
def test_cmpo(clip: float, gradient: float) -> None:
    inputs = random_inputs()
    valid = [m for m in range(ROWS) if inputs.share[m]]
    scale = math.sqrt(sum(inputs.advantage[m].item() ** 2 for m in valid) / len(valid))

    def target(prior: list[float], q: list[float], v: float) -> list[float]:
        raw = [p * math.exp(min(max((x - v) / scale, -clip), clip)) for p, x in zip(prior, q, strict=True)]
        return [x / sum(raw) for x in raw]

    def oracle(pi, prior, q, v, a, mu, g, advantage):
        slopes = target(prior, q, v)
        slopes[a] += gradient * min(1.3, pi[a] / mu) * advantage / scale
        return slopes

    check_gradient(CMPO(clip, gradient, 1.3, 0.99), inputs, oracle)
    for m in range(ROWS):
        _, prior, q, v, *_ = row(inputs, m)
        distance = 0.5 * sum(abs(a - b) for a, b in zip(target(prior, q, v), prior, strict=True))
        assert distance <= math.tanh(clip / 2) + 1e-12


def test_cmpo_with_equal_advantages_is_the_prior() -> None:
    inputs = random_inputs()
    flat = replace(inputs, q_values=torch.full((ROWS, ACTIONS), 3.0))
    check_gradient(CMPO(1.0, 0.0, 1.0, 0.99), flat, lambda pi, prior, *_: prior)


def test_mpo_and_its_duals() -> None:
    inputs = random_inputs()
    policy = MPO(0.1, 0.01, 0.8, 1.7, 0.02)

    def target(prior: list[float], q: list[float]) -> list[float]:
        return softmax([math.log(p) + x / 0.8 for p, x in zip(prior, q, strict=True)])

    def oracle(pi, prior, q, v, a, mu, g, advantage):
        return [t + 1.7 * p for t, p in zip(target(prior, q), prior, strict=True)]

    check_gradient(policy, inputs, oracle)
    rows = [row(inputs, m) for m in range(ROWS) if inputs.share[m]]
    step = drift = 0.0
    for pi, prior, q, *_ in rows:
        step += sum(t * math.log(t / p) for t, p in zip(target(prior, q), prior, strict=True)) / len(rows)
        drift += sum(p * math.log(p / x) for p, x in zip(prior, pi, strict=True)) / len(rows)
    for dual, start, kl, epsilon in [(policy.temperature, 0.8, step, 0.1), (policy.penalty, 1.7, drift, 0.01)]:
        want = start * math.exp(0.02 * min(max((kl - epsilon) / epsilon, -1.0), 1.0))
        assert dual().item() == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("q_scale", [1e-2, 1.0, 100.0])
def test_mpos_temperature_meets_its_kl(q_scale: float) -> None:
    inputs = random_inputs(q_scale=q_scale)
    policy = MPO(0.1, 0.01, 1.0, 1.0, 0.05)
    for _ in range(400):
        _, log = policy.loss(inputs, measure=True)
    assert log["policy_target_kl"].item() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("clip", [0.5, 1.0, 10.0])
def test_policy_gradients(clip: float) -> None:
    inputs = random_inputs()

    def vtrace(pi, prior, q, v, a, mu, g, advantage):
        slopes = [0.0] * ACTIONS
        slopes[a] = min(clip, pi[a] / mu) * advantage
        return slopes

    def acer(pi, prior, q, v, a, mu, g, advantage):
        slopes, rho = [0.0] * ACTIONS, pi[a] / mu
        slopes[a] = min(clip, rho) * (g - v) + max(0.0, 1 - clip / rho) * rho * (q[a] - v)
        return slopes

    def beta_loo(pi, prior, q, v, a, mu, g, advantage):
        slopes = [p * x for p, x in zip(pi, q, strict=True)]  # grad pi = pi grad log pi
        slopes[a] += min(clip, 1 / mu) * (g - q[a]) * pi[a]
        return slopes

    def none(pi, prior, q, v, a, mu, g, advantage):
        return [advantage * (other == a) for other in range(ACTIONS)]

    for correction, oracle in [("vtrace", vtrace), ("none", none), ("acer", acer), ("beta_loo", beta_loo)]:
        check_gradient(PolicyGradient(correction, clip, 0.0, False), inputs, oracle)


def test_shares_at_the_cap_are_told_where_there_is_one() -> None:
    inputs = random_inputs()
    assert "saturated_weights" in PolicyGradient("vtrace", 1.0, 0.0, False).loss(inputs, measure=True)[1]
    assert "saturated_weights" not in PolicyGradient("none", 1.0, 0.0, False).loss(inputs, measure=True)[1]


def test_the_entropy_bonus() -> None:
    inputs = replace(random_inputs(), advantage=torch.zeros(ROWS))
    loss, _ = PolicyGradient("vtrace", 1.0, 0.3, False).loss(inputs)
    entropies = [-sum(p * math.log(p) for p in row(inputs, m)[0]) for m in range(ROWS)]
    torch.testing.assert_close(loss.detach(), -0.3 * torch.tensor(entropies), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("correction", "clip"), [("acer", 0.3), ("acer", 2.0), ("beta_loo", 1e9), ("vtrace", 1e9)])
def test_the_mean_over_mu_is_the_policy_gradient(correction: str, clip: float) -> None:
    """With exact returns every action weighed by mu gives sum_a pi(a) (Q(a) - V) grad log pi(a)."""
    torch.manual_seed(0)
    logits = torch.randn(ACTIONS).expand(ACTIONS, -1).clone().requires_grad_()
    mu, prior = torch.softmax(torch.randn(2, ACTIONS), -1)
    q = torch.randn(ACTIONS)
    v = (prior * q).sum()
    inputs = PolicyInputs(
        logits=logits, pi=prior.expand(ACTIONS, -1), q_values=q.expand(ACTIONS, -1), action=torch.arange(ACTIONS),
        log_mu=mu.log(), returns=q, advantage=q - v, share=torch.full((ACTIONS,), 1 / ACTIONS),
    )  # fmt: skip
    loss, _ = PolicyGradient(correction, clip, 0.0, False).loss(inputs)
    (grad,) = torch.autograd.grad((mu * loss).sum(), logits)
    pi = torch.softmax(logits[0].detach(), -1)
    slopes = pi * (q - v)
    torch.testing.assert_close(grad.sum(0), -(slopes - pi * slopes.sum()), rtol=0, atol=1e-9)


def test_acer_truncation_is_biased_without_its_correction() -> None:
    """The paper's sum over all actions, for returns that differ from Q."""
    torch.manual_seed(1)
    clip = 0.6
    logits = torch.randn(ACTIONS).expand(ACTIONS, -1).clone().requires_grad_()
    mu, q, returns = torch.softmax(torch.randn(ACTIONS), -1), torch.randn(ACTIONS), torch.randn(ACTIONS)
    prior = torch.softmax(torch.randn(ACTIONS), -1)
    inputs = PolicyInputs(
        logits=logits, pi=prior.expand(ACTIONS, -1), q_values=q.expand(ACTIONS, -1), action=torch.arange(ACTIONS),
        log_mu=mu.log(), returns=returns, advantage=returns, share=torch.full((ACTIONS,), 1 / ACTIONS),
    )  # fmt: skip
    loss, _ = PolicyGradient("acer", clip, 0.0, False).loss(inputs)
    (grad,) = torch.autograd.grad((mu * loss).sum(), logits)
    pi, v = torch.softmax(logits[0].detach(), -1), (prior * q).sum()
    rho = pi / mu
    slopes = mu * rho.clamp(max=clip) * (returns - v) + pi * (1 - clip / rho).clamp(min=0) * (q - v)
    torch.testing.assert_close(grad.sum(0), -(slopes - pi * slopes.sum()), rtol=0, atol=1e-9)
    assert (rho > clip).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxQ(0.0, False), "temperature"),
        (lambda: Munchausen(0.0, 0.9, -1.0), "temperature"),
        (lambda: Munchausen(0.03, 1.1, -1.0), "alpha"),
        (lambda: Munchausen(0.03, 0.9, 0.0), "clip"),
        (lambda: CMPO(0.0, 0.0, 1.0, 0.9), "clip"),
        (lambda: CMPO(1.0, -0.1, 1.0, 0.9), "gradient"),
        (lambda: CMPO(1.0, 0.0, 1.0, 1.0), "scale_decay"),
        (lambda: MPO(0.0, 0.1, 1.0, 1.0, 0.1), "epsilon"),
        (lambda: PolicyGradient("acer", 1.0, 0.0, True), "normalise"),
        (lambda: PolicyGradient("acer", 0.0, 0.0, False), "clip"),
        (lambda: PolicyGradient("acer", 1.0, -1.0, False), "entropy"),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
