"""The greedy and the advantage-weighted policy against loops in plain float64 Python."""

import math
from dataclasses import replace

import pytest
import torch
from policy_cases import random_inputs, twofold

from offpol.policy.advantage_weighted import AdvantageWeighted
from offpol.policy.greedy import Greedy
from offpol.policy_base import entropy
from offpol.temperature import TemperatureConfig
from offpol.types import PolicyInputs

FIXED = TemperatureConfig("fixed", 0.7, 0.2, 0.02, 0.99)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def target_oracle(inputs: PolicyInputs, m: int, actions: str, weight: str, advantage: str, cap: float,
                  prior: float, divisor: float) -> list[float]:  # fmt: skip
    """Weights of one row's actions, from the equations in the class docstring."""
    q, pi = inputs.q_values[m].tolist(), inputs.pi[m].tolist()
    v = sum(p * x for p, x in zip(pi, q, strict=True))
    taken = inputs.action[m].item()
    if actions == "logged":
        a = q[taken] - v if advantage == "value" else inputs.advantage[m].item()
        w = min(math.exp(min(a / divisor, 300.0)), cap) if weight == "exp" else float(a > 0)
        return [w if i == taken else 0.0 for i in range(len(q))]
    if weight == "exp":
        w = [math.exp(max((x - max(q)) / divisor, -2 * math.log(cap))) for x in q]
    else:
        w = [float(x - v >= 0) for x in q]
    raw = [p**prior * x for p, x in zip(pi, w, strict=True)]
    return [x / sum(raw) for x in raw]


CASES = [
    ("all", "exp", "value"), ("all", "binary", "value"), ("logged", "exp", "value"), ("logged", "binary", "value"),
    ("logged", "exp", "returns"), ("logged", "binary", "returns"),
]  # fmt: skip


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("actions", "weight", "advantage"), CASES)
@pytest.mark.parametrize("prior", [0.0, 0.9, 1.0])
def test_loss_and_gradient_equal_the_equations(actions: str, weight: str, advantage: str, prior: float) -> None:
    inputs = random_inputs()
    policy = AdvantageWeighted(actions, weight, advantage, 3.0, prior, FIXED)
    loss, _ = policy.loss(inputs)
    (grad,) = torch.autograd.grad(loss.sum(), inputs.logits)
    for m in range(40):
        target = target_oracle(inputs, m, actions, weight, advantage, 3.0, prior, 0.7)
        exps = [math.exp(x) for x in inputs.logits[m].tolist()]
        pi = [x / sum(exps) for x in exps]
        assert abs(loss[m].item() + sum(t * math.log(p) for t, p in zip(target, pi, strict=True))) < 1e-9
        for got, t, p in zip(grad[m].tolist(), target, pi, strict=True):
            assert abs(got - (p * sum(target) - t)) < 1e-9


@pytest.mark.usefixtures("float64")
def test_the_scale_is_the_running_root_mean_square_over_valid_rows() -> None:
    policy = AdvantageWeighted("all", "exp", "value", 20.0, 0.9, replace(FIXED, control="scale"))
    total = weight = 0.0
    for seed in range(3):
        inputs = random_inputs(seed=seed)
        _, log = policy.loss(inputs, measure=True)
        a = inputs.q_values - (inputs.pi * inputs.q_values).sum(-1, keepdim=True)
        mean = sum(x * x for row, ok in zip(a.tolist(), inputs.share.tolist(), strict=True) if ok for x in row)
        total = 0.99 * total + 0.01 * mean / (5 * int((inputs.share > 0).sum()))
        weight = 0.99 * weight + 0.01
        assert log["temperature"].item() == pytest.approx(0.7 * math.sqrt(total / weight), abs=1e-9)


@pytest.mark.parametrize(
    ("actions", "weight", "advantage", "control"),
    [(*case, control) for case in CASES for control in ("fixed", "scale")] + [("all", "exp", "value", "entropy")],
)
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e4])
def test_weights_are_bounded_and_finite_at_any_advantage(
    actions: str, weight: str, advantage: str, control: str, size: float
) -> None:
    policy = AdvantageWeighted(actions, weight, advantage, 20.0, 0.9, replace(FIXED, control=control))
    pi = torch.nn.functional.one_hot(torch.arange(40) % 5, 5).float()  # the logarithm of 0 must not spread
    inputs = replace(random_inputs(q_scale=size), pi=pi)
    for _ in range(3):
        loss, log = policy.loss(inputs, measure=True)
    (grad,) = torch.autograd.grad(loss.sum(), inputs.logits)
    assert loss.isfinite().all()
    assert grad.isfinite().all()
    assert grad.abs().max() <= 20.0
    assert all(x.isfinite() and x.ndim == 0 and not x.requires_grad for x in log.values())


def test_only_the_logits_receive_a_gradient_and_its_scale_is_that_of_one_row() -> None:
    inputs = random_inputs()
    q_values = inputs.q_values.clone().requires_grad_()
    loss, _ = AdvantageWeighted("all", "exp", "value", 20.0, 0.9, FIXED).loss(replace(inputs, q_values=q_values))
    loss.mean().backward()
    assert q_values.grad is None
    twice = twofold(inputs)
    twice.logits.requires_grad_()
    doubled, _ = AdvantageWeighted("all", "exp", "value", 20.0, 0.9, FIXED).loss(twice)
    doubled.mean().backward()
    torch.testing.assert_close(twice.logits.grad[:40] + twice.logits.grad[40:], inputs.logits.grad)


def learn_a_table(settings: TemperatureConfig, prior: float, q_scale: float) -> tuple[float, float, float]:
    """Learn logits for 64 states of fixed Q; return the lowest and the last entropy share, and the regret."""
    torch.manual_seed(0)
    q = q_scale * torch.randn(64, 6)
    policy = AdvantageWeighted("all", "exp", "value", 20.0, prior, settings)
    logits, target = torch.zeros(64, 6, requires_grad=True), torch.zeros(64, 6)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    zeros, lowest = torch.zeros(64), 1.0
    for _ in range(600):
        inputs = PolicyInputs(
            logits, torch.softmax(target, -1), q, zeros.long(), zeros, zeros, zeros, torch.full((64,), 1 / 64)
        )
        loss, _ = policy.loss(inputs)
        spread = entropy(logits.detach().log_softmax(-1)).mean().item() / math.log(6)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        target.lerp_(logits.detach(), 0.04)
        lowest = min(lowest, spread)
    pi = torch.softmax(logits.detach(), -1)
    regret = (q.amax(-1) - (pi * q).sum(-1)).mean() / (q.amax(-1) - q.mean(-1)).mean()
    return lowest, spread, regret.item()


@pytest.mark.parametrize(("q_scale", "start"), [(1e-3, 6.0), (100.0, 0.1)])
def test_entropy_control_neither_collapses_nor_stays_uniform(q_scale: float, start: float) -> None:
    settings = TemperatureConfig("entropy", start, 0.2, 0.02, 0.99)
    lowest, last, regret = learn_a_table(settings, 0.7, q_scale)
    assert lowest > 0.07
    assert 0.13 < last < 0.27
    assert regret < 0.05
    _, uncontrolled, _ = learn_a_table(replace(settings, control="scale"), 0.7, q_scale)
    assert not 0.1 < uncontrolled < 0.35


def test_entropy_control_keeps_its_hold_where_the_best_action_keeps_changing() -> None:
    """As in games of many nearly equal actions: the policy lags, so that several actions lie above its value."""
    torch.manual_seed(0)
    rows, actions, lasting = 32, 18, math.exp(-1 / 60)
    policy = AdvantageWeighted("all", "exp", "value", 20.0, 0.7, TemperatureConfig("entropy", 1.0, 0.15, 0.02, 0.99))
    logits, followed = torch.zeros(rows, actions, requires_grad=True), torch.zeros(rows, actions)
    optimizer = torch.optim.Adam([logits], lr=0.02)
    constant, drift, zeros = torch.randn(rows, actions), torch.randn(rows, actions), torch.zeros(rows)
    late = []
    for step in range(2000):
        drift = lasting * drift + math.sqrt(1 - lasting**2) * torch.randn(rows, actions)
        pi, share = torch.softmax(followed, -1), torch.full((rows,), 1 / rows)
        inputs = PolicyInputs(logits, pi, constant + drift, zeros.long(), zeros, zeros, zeros, share)
        loss, log = policy.loss(inputs, measure=True)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        followed.lerp_(logits.detach(), 0.01)
        if step >= 1000:
            late.append(log["policy_target_entropy"].item() / math.log(actions))
    assert sum(late) / len(late) == pytest.approx(0.15, abs=0.02)
    assert policy.temperature.multiplier().item() > 0.03  # its bound is 0.01


def test_without_control_a_full_prior_collapses() -> None:
    """What the control is for: the same problem with prior 1 and a temperature in units of the scale."""
    _, last, _ = learn_a_table(TemperatureConfig("scale", 0.2, 0.2, 0.02, 0.99), 1.0, 1.0)
    assert last < 0.03


@pytest.mark.parametrize(
    ("change", "message"),
    [({"cap": 1.0}, "cap"), ({"prior": 1.1}, "prior"), ({"advantage": "returns"}, "advantage"),
     ({"weight": "binary", "temperature": replace(FIXED, control="entropy")}, "temperature.control")],
)  # fmt: skip
def test_advantage_weighted_refuses(change: dict, message: str) -> None:
    good = {"actions": "all", "weight": "exp", "advantage": "value", "cap": 20.0, "prior": 0.9, "temperature": FIXED}
    with pytest.raises(ValueError, match=message):
        AdvantageWeighted(**{**good, **change})


@pytest.mark.parametrize("change", [{"start": 0.0}, {"target_entropy": 1.0}, {"scale_decay": 1.0}, {"rate": -1.0}])
def test_temperature_settings_refuse(change: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))}"):
        replace(FIXED, **change)


def test_greedy_splits_ties_and_learns_nothing() -> None:
    policy = Greedy(double=True)
    q = torch.tensor([[1.0, 2.0, 2.0], [0.0, -1.0, -2.0], [5.0, 5.0, 5.0]])
    want = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(policy.probs(q, torch.randn(3, 3)), want)
    loss, log = policy.loss(random_inputs(), measure=True)
    assert policy.double
    assert loss.tolist() == [0.0] * 40
    assert log == {}


def test_the_scale_is_that_of_the_advantages_that_are_weighed() -> None:
    """Advantages of returns may be far larger than the gaps between values."""
    inputs = random_inputs()
    inputs = replace(inputs, advantage=1000 * inputs.advantage)
    policy = AdvantageWeighted("logged", "exp", "returns", 20.0, 0.0, TemperatureConfig("scale", 1.0, 0.2, 0.02, 0.99))
    _, log = policy.loss(inputs, measure=True)
    rms = (inputs.advantage.square() @ inputs.share).sqrt()
    torch.testing.assert_close(log["temperature"], rms, rtol=1e-4, atol=0)


def test_one_action_leaves_the_temperature_alone() -> None:
    policy = AdvantageWeighted("all", "exp", "value", 20.0, 0.7, TemperatureConfig("entropy", 1.0, 0.2, 0.02, 0.99))
    for _ in range(3):
        loss, _ = policy.loss(random_inputs(actions=1))
        assert loss.abs().max() == 0
