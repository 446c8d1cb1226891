"""Critics that learn distributions, and two-hot, against loops in plain float64 Python."""

import math

import pytest
import torch
from omegaconf import OmegaConf
from trace_cases import changed, random_inputs

from offpol.config import build, conf_dir
from offpol.critic.categorical import Categorical
from offpol.critic.quantile import Quantile
from offpol.critic.two_hot import TwoHot
from offpol.mixture import lags
from offpol.policy.greedy import Greedy
from offpol.trace.n_step import NStep
from offpol.trace.one_step import OneStep
from offpol.trace.peng import Peng
from offpol.trace.retrace import Retrace
from offpol.types import Trace, TraceInputs

TRACES = [build(OmegaConf.load(file)) for file in sorted((conf_dir() / "trace").glob("*.yaml"))]
MIXTURES = [trace for trace in TRACES if getattr(trace, "mixture", None)]
LOW, HIGH, BINS = -4.0, 6.0, 11


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def with_logits(seed: int, spread: float) -> tuple[TraceInputs, torch.Tensor]:
    """Random windows whose Q are the means of random distributions; logits [1, B, n+1, A, K] of BINS atoms."""
    inputs = random_inputs(seed, windows=3, n=4, actions=3)
    logits = spread * torch.randn(1, 3, 5, 3, BINS, generator=torch.Generator().manual_seed(seed))
    q_values = Categorical(LOW, HIGH, BINS, 1, False).value(logits[0])
    return TraceInputs.of(
        q_values, inputs.pi, inputs.action, inputs.reward, inputs.discount, inputs.log_mu, inputs.valid_next
    ), logits


def mixture_oracle(inputs: TraceInputs, trace: list, b: int, t: int, kind: str) -> list[tuple]:
    """(weight, reward, discount, row, action) of every n-step backup of row t, by Reactor's formula."""
    out, reward, discount, product = [], 0.0, 1.0, 1.0
    n = inputs.reward.shape[1]
    for row in range(t + 1, n + 1):
        reward += discount * inputs.reward[b, row - 1].item()
        discount *= inputs.discount[b, row - 1].item()
        goes_on = row < n and bool(inputs.valid_next[b, row - 1])
        c = trace[b][row] if goes_on else 0.0
        for a in range(inputs.pi.shape[-1]):
            pi = inputs.pi[b, row, a].item()
            off = c * (float(goes_on and a == inputs.action[b, row]) if kind == "taken" else pi)
            out.append((product * (pi - off), reward, discount, row, a))
        product *= c
        if not goes_on:
            return out
    return out


def project(atoms: list[float], masses: list[float]) -> list[float]:
    """C51's projection as the paper's double sum of hat functions."""
    width = (HIGH - LOW) / (BINS - 1)
    clipped = [min(max(z, LOW), HIGH) for z in atoms]
    return [
        sum(m * max(0.0, 1 - abs(z - (LOW + i * width)) / width) for z, m in zip(clipped, masses, strict=True))
        for i in range(BINS)
    ]


@pytest.mark.parametrize("trace", MIXTURES, ids=lambda trace: type(trace).__name__)
@pytest.mark.parametrize("seed", range(2))
def test_a_mixtures_mean_is_the_operators_return(trace: Trace, seed: int) -> None:
    inputs = random_inputs(seed)
    traced = trace(inputs)
    mean, mass = torch.zeros_like(inputs.reward), torch.zeros_like(inputs.reward)
    for m, lag in enumerate(lags(inputs, traced, trace.mixture), 1):
        backup = lag.reward.unsqueeze(-1) + lag.discount.unsqueeze(-1) * inputs.q_values[:, m:]
        mean[:, : 8 - m] += (lag.weight * backup).sum(-1)
        mass[:, : 8 - m] += lag.weight.sum(-1)
    torch.testing.assert_close(mean, traced.returns, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=1e-9, atol=1e-9)


def test_enough_operators_are_mixtures_and_state_values_are_not() -> None:
    assert {"Retrace", "NStep", "OneStep", "TreeBackup", "Peng"} <= {type(trace).__name__ for trace in MIXTURES}
    assert not {"VTrace", "Puffer", "GAE", "RBIS", "CTrace"} & {type(trace).__name__ for trace in MIXTURES}


@pytest.mark.parametrize("trace", [Retrace(0.9), NStep(), Peng(0.6), OneStep()], ids=repr)
@pytest.mark.parametrize("seed", range(2))
def test_categorical_targets_equal_reactors_sum(trace: Trace, seed: int) -> None:
    inputs, logits = with_logits(seed, 2.0)
    critic = Categorical(LOW, HIGH, BINS, 1, False)
    traced = trace(inputs)
    got = critic.targets(inputs, traced, logits, trace.mixture)
    probs = (logits[0] - logits[0].logsumexp(-1, keepdim=True)).exp().tolist()
    atoms = [LOW + i * (HIGH - LOW) / (BINS - 1) for i in range(BINS)]
    for b in range(3):
        for t in range(4):
            want = [0.0] * BINS
            for weight, reward, discount, row, a in mixture_oracle(inputs, traced.trace.tolist(), b, t, trace.mixture):
                moved = project([reward + discount * z for z in atoms], [weight * p for p in probs[b][row][a]])
                want = [x + y for x, y in zip(want, moved, strict=True)]
            assert max(abs(x - y) for x, y in zip(got[b, t].tolist(), want, strict=True)) < 1e-9
    torch.testing.assert_close(got.sum(-1), torch.ones(3, 4), rtol=0, atol=1e-9)


def test_signed_mixtures_are_kept_and_keep_the_mean() -> None:
    """Inside the support the target's mean is Retrace's scalar return, though masses are negative."""
    inputs, logits = with_logits(3, 8.0)
    wide = Categorical(LOW, HIGH, BINS, 1, False)
    inputs = changed(inputs, reward=0.1 * inputs.reward, log_mu=inputs.log_pi, discount=0.5 * inputs.discount)
    traced = Retrace(1.0)(inputs)
    got = wide.targets(inputs, traced, logits, "taken")
    assert (got < -0.01).any()
    torch.testing.assert_close((got * wide.atoms).sum(-1), traced.returns, rtol=0, atol=1e-9)


def test_c51_at_discount_zero_is_the_two_hot_reward() -> None:
    inputs, logits = with_logits(0, 2.0)
    ended = changed(inputs, discount=torch.zeros_like(inputs.discount), valid_next=torch.zeros_like(inputs.valid_next))
    for trace in (OneStep(), NStep(), Retrace(1.0)):
        got = Categorical(LOW, HIGH, BINS, 1, False).targets(ended, trace(ended), logits, trace.mixture)
        want = TwoHot(LOW, HIGH, BINS, "none", 1, 0, False).probs(inputs.reward)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


def test_one_step_greedy_is_c51() -> None:
    inputs, logits = with_logits(1, 2.0)
    greedy = changed(inputs, pi=Greedy(double=False).probs(inputs.q_values, inputs.q_values))
    got = Categorical(LOW, HIGH, BINS, 1, False).targets(greedy, OneStep()(greedy), logits, "taken")
    atoms = [LOW + i * (HIGH - LOW) / (BINS - 1) for i in range(BINS)]
    for b in range(3):
        for t in range(4):
            best = int(inputs.q_values[b, t + 1].argmax())
            moved = [inputs.reward[b, t].item() + inputs.discount[b, t].item() * z for z in atoms]
            want = project(moved, torch.softmax(logits[0, b, t + 1, best], -1).tolist())
            assert max(abs(x - y) for x, y in zip(got[b, t].tolist(), want, strict=True)) < 1e-9


def test_categorical_loss_gradient_and_ensemble() -> None:
    critic = Categorical(LOW, HIGH, BINS, 2, False)
    logits = torch.randn(2, 5, BINS, requires_grad=True)
    target = torch.softmax(3 * torch.randn(5, BINS), -1) * 1.5 - 0.5 / BINS
    loss = critic.loss(logits, target)
    assert loss.shape == (2, 5)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    softmax = logits.detach().exp() / logits.detach().exp().sum(-1, keepdim=True)
    torch.testing.assert_close(loss.detach(), -(target * softmax.log()).sum(-1), rtol=0, atol=1e-9)
    torch.testing.assert_close(grad, softmax - target, rtol=0, atol=1e-9)
    inputs, one = with_logits(0, 2.0)
    both = torch.cat([one, one.flip(-1)])
    got = critic.targets(inputs, OneStep()(inputs), both, "taken")
    single = [Categorical(LOW, HIGH, BINS, 1, False).targets(inputs, OneStep()(inputs), x[None], "taken") for x in both]
    torch.testing.assert_close(got, 0.5 * (single[0] + single[1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("y", [LOW, HIGH, 0.0, 0.25, 5.999, -17.0, 1e30])
def test_two_hot_encodes_between_its_neighbours(y: float) -> None:
    critic = TwoHot(LOW, HIGH, BINS, "none", 1, 0, False)
    probs = critic.probs(torch.tensor(y)).tolist()
    assert max(abs(a - b) for a, b in zip(probs, project([y], [1.0]), strict=True)) < 1e-12
    assert sum(p > 0 for p in probs) <= 2
    inside = min(max(y, LOW), HIGH)
    assert critic.value(torch.tensor(probs).log()).item() == pytest.approx(inside, abs=1e-9)
    logits = torch.randn(BINS)
    loss = critic.loss(logits, torch.tensor(y)).item()
    want = sum(p * (math.log(sum(math.exp(x) for x in logits.tolist())) - z)
               for p, z in zip(probs, logits.tolist(), strict=True))  # fmt: skip
    assert loss == pytest.approx(want, abs=1e-9)
    assert critic.clamp(torch.tensor(y)).item() == inside


def test_a_target_that_is_no_number_makes_a_loss_that_is_none() -> None:
    critic = TwoHot(LOW, HIGH, 7, "none", 1, 0, False)
    loss = critic.loss(torch.zeros(1, 2, 7), torch.tensor([math.nan, 1.0]))
    assert loss.isnan().tolist() == [[True, False]]  # so that the guard can say it


def test_a_transformed_two_hot_decodes_exactly() -> None:
    critic = TwoHot(-300.0, 300.0, 601, "signed_hyperbolic", 1, 0, False)
    y = torch.tensor([-299.0, -1.5, 0.0, 0.2, 250.0])
    torch.testing.assert_close(critic.value(critic.probs(y).log()), y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_quantile_loss_and_gradient(delta: float) -> None:
    critic = Quantile(4, delta, 1, False)
    logits = torch.randn(1, 3, 4, requires_grad=True)
    targets = torch.stack([2 * torch.randn(3, 7), torch.randn(3, 7)], -2)
    loss = critic.loss(logits, targets)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    for row in range(3):
        total, slopes = 0.0, []
        for i, theta in enumerate(logits[0, row].tolist()):
            slope = 0.0
            for z, w in zip(*targets[row].tolist(), strict=True):
                u = z - theta
                tilt = abs((i + 0.5) / 4 - (1.0 if u < 0 else 0.0))
                huber = 0.5 * u * u if abs(u) <= delta else delta * (abs(u) - 0.5 * delta)
                total += w * tilt * huber / delta
                slope -= w * tilt * min(max(u, -delta), delta) / delta
            slopes.append(slope)
        assert loss[0, row].item() == pytest.approx(total, abs=1e-9)
        assert max(abs(a - b) for a, b in zip(grad[0, row].tolist(), slopes, strict=True)) < 1e-9


@pytest.mark.parametrize("trace", [Retrace(0.9), NStep()], ids=repr)
def test_quantile_targets_are_reactors_mixture(trace: Trace) -> None:
    inputs, logits = with_logits(2, 2.0)
    traced = trace(inputs)
    coefficients = traced.trace.tolist()
    atoms, weights = Quantile(BINS, 1.0, 1, False).targets(inputs, traced, logits, trace.mixture).unbind(-2)
    for b in range(3):
        for t in range(4):
            got = sorted((z, w) for z, w in zip(atoms[b, t].tolist(), weights[b, t].tolist(), strict=True) if w != 0)
            want = sorted(
                (reward + discount * theta, weight / BINS)
                for weight, reward, discount, row, a in mixture_oracle(inputs, coefficients, b, t, trace.mixture)
                for theta in logits[0, b, row, a].tolist()
                if weight != 0
            )
            moments = [[sum(w * z**p for z, w in pairs) for p in range(4)] for pairs in (got, want)]
            assert moments[0] == pytest.approx(moments[1], abs=1e-9)


def test_quantiles_of_a_known_distribution_are_learned() -> None:
    critic = Quantile(5, 1e-3, 1, False)
    theta = torch.zeros(1, 1, 5, requires_grad=True)
    atoms = torch.linspace(0, 1, 501)
    targets = torch.stack([atoms, torch.full_like(atoms, 1 / 501)]).unsqueeze(0)
    optimizer = torch.optim.Adam([theta], lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        critic.loss(theta, targets).sum().backward()
        optimizer.step()
    torch.testing.assert_close(theta.detach()[0, 0], critic.levels, rtol=0, atol=0.02)
    assert critic.value(theta.detach())[0, 0].item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("critic", [Categorical, lambda *a: TwoHot(*a[:3], "none", a[3], 0, a[4])])
@pytest.mark.parametrize(("arguments", "message"), [((1.0, 0.0, 5, 1), "v_min"), ((0.0, 1.0, 1, 1), "num_bins")])
def test_a_bad_support_is_refused(critic: type, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        critic(*arguments, False)
