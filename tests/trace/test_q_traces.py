"""Operators on action values against the papers' sums, and against each other."""

import math
from functools import partial

import pytest
import torch
from trace_cases import GAMMA, changed, explicit_sum, max_gap, random_inputs, retrace_coefficients, sums

from offpol.policy.greedy import Greedy
from offpol.trace.gae import GAE
from offpol.trace.importance_sampling import ImportanceSampling
from offpol.trace.n_step import NStep
from offpol.trace.one_step import OneStep
from offpol.trace.peng import Peng
from offpol.trace.q_lambda import QLambda
from offpol.trace.rbis import RBIS
from offpol.trace.retrace import Retrace
from offpol.trace.tree_backup import TreeBackup
from offpol.trace.watkins import Watkins
from offpol.types import TraceInputs


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_retrace_equals_the_papers_sum(seed: int, lambda_: float) -> None:
    inputs = random_inputs(seed)
    targets = Retrace(lambda_)(inputs)
    windows, n = inputs.q.shape
    c = [retrace_coefficients(inputs, b, lambda_) for b in range(windows)]
    assert max_gap(targets.trace, c) < 1e-12
    want = sums(inputs, c)
    assert max_gap(targets.returns, want) < 1e-9
    want = [[want[b][t] - inputs.v[b, t].item() for t in range(n)] for b in range(windows)]
    assert max_gap(targets.advantage, want) < 1e-9


@pytest.mark.parametrize("mutation", ["shifted", "c_0 included", "min(lambda, rho)", "truncation terminates"])
def test_the_sum_tells_the_usual_mistakes_apart(mutation: str) -> None:
    """The oracle is sharp: each known mistake moves it visibly on the inputs used above."""
    inputs = random_inputs(0)
    right = Retrace(0.7)(inputs).returns
    windows, n = inputs.q.shape
    wrong = []
    for b in range(windows):
        c = retrace_coefficients(inputs, b, 0.7)
        row = []
        for t in range(n):
            if mutation == "shifted":
                row.append(explicit_sum(inputs, b, t, c[1:] + c[-1:]))
            elif mutation == "c_0 included":
                q = inputs.q[b, t].item()
                row.append(q + c[t] * (explicit_sum(inputs, b, t, c) - q))
            elif mutation == "min(lambda, rho)":
                row.append(explicit_sum(inputs, b, t, [min(0.7, x / 0.7) for x in c]))
            else:
                ended = changed(inputs, discount=inputs.discount * inputs.valid_next)
                row.append(explicit_sum(ended, b, t, c))
        wrong.append(row)
    assert max_gap(right, wrong) > 1e-2


@pytest.mark.parametrize("seed", range(4))
def test_n_step_runs_to_the_windows_or_the_episodes_end(seed: int) -> None:
    inputs = random_inputs(seed)
    targets = NStep()(inputs)
    for b in range(inputs.q.shape[0]):
        for t in range(inputs.q.shape[1]):
            want, discount, s = 0.0, 1.0, t
            while True:
                want += discount * inputs.reward[b, s].item()
                discount *= inputs.discount[b, s].item()
                if not inputs.valid_next[b, s] or s == inputs.q.shape[1] - 1:
                    break
                s += 1
            want += discount * inputs.v[b, s + 1].item()
            assert abs(targets.returns[b, t].item() - want) < 1e-9
            assert discount in (0.0, pytest.approx(GAMMA ** (s - t + 1)))


def test_one_step_is_retrace_without_traces() -> None:
    inputs = random_inputs(5)
    want = inputs.reward + inputs.discount * (inputs.pi * inputs.q_values).sum(-1)[:, 1:]
    torch.testing.assert_close(OneStep()(inputs).returns, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(Retrace(0.0)(inputs).returns, want, rtol=0, atol=1e-9)


def test_retrace_on_policy_telescopes_to_the_return() -> None:
    """With a deterministic pi = mu and lambda 1, V = Q(a): the return plus bootstrap is left."""
    inputs = random_inputs(6)
    action = torch.randint(4, (6, 8), generator=torch.Generator().manual_seed(1))
    pi = torch.nn.functional.one_hot(action, 4).double()
    on_policy = TraceInputs.of(
        inputs.q_values, pi, action[:, :-1], inputs.reward, inputs.discount, torch.zeros(6, 7).double(),
        inputs.valid_next,
    )  # fmt: skip
    torch.testing.assert_close(Retrace(1.0)(on_policy).returns, NStep()(on_policy).returns, rtol=0, atol=1e-9)


def test_an_action_pi_never_takes_cuts_without_nan() -> None:
    inputs = random_inputs(7)
    never = changed(inputs, log_pi=torch.full_like(inputs.log_pi, -torch.inf))
    targets = Retrace(1.0)(never)
    assert (targets.trace == 0).all()
    torch.testing.assert_close(targets.returns, OneStep()(inputs).returns, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_the_other_coefficients(seed: int, lambda_: float) -> None:
    inputs = random_inputs(seed)
    log_pi, log_mu = inputs.log_pi.tolist(), inputs.log_mu.tolist()
    cases = [
        (QLambda, lambda p, m: lambda_),
        (TreeBackup, lambda p, m: lambda_ * math.exp(p)),
        (ImportanceSampling, lambda p, m: lambda_ * math.exp(p) / math.exp(m)),
    ]
    for operator, coefficient in cases:
        c = [[coefficient(p, m) for p, m in zip(*row, strict=True)] for row in zip(log_pi, log_mu, strict=True)]
        targets = operator(lambda_)(inputs)
        assert max_gap(targets.trace, c) < 1e-9
        assert max_gap(targets.returns, sums(inputs, c)) < 1e-9 * targets.returns.abs().max().clamp(min=1)
        assert (targets.advantage - (targets.returns - inputs.v[:, :-1])).abs().max() < 1e-9


@pytest.mark.parametrize("kappa", [None, 0.0, 0.3])
def test_watkins_coefficients(kappa: float | None) -> None:
    inputs = random_inputs(1)
    c = []
    for q_row, pi_row, taken in zip(inputs.q_values.tolist(), inputs.pi.tolist(), inputs.q.tolist(), strict=True):
        near = [
            [float(mine == max(q)) if kappa is None else mine >= x - kappa * abs(x) for x in q]
            for q, mine in zip(q_row[:-1], taken, strict=True)
        ]
        weights = [[p / max(sum(pi), 1e-300) for p in pi] for pi in pi_row]
        c.append([0.9 * (n[0] if kappa is None else sum(p for p, ok in zip(pi, n, strict=True) if ok))
                  for n, pi in zip(near, weights, strict=False)])  # fmt: skip
    if kappa is None:
        inputs_v = changed(inputs, v=inputs.q_values.max(-1).values)
    targets = Watkins(0.9, kappa)(inputs)
    assert max_gap(targets.trace, c) < 1e-12
    assert max_gap(targets.returns, sums(inputs_v if kappa is None else inputs, c)) < 1e-9


def test_soft_watkins_widens_from_hard_to_q_lambda() -> None:
    inputs = random_inputs(2)
    pi = Greedy(double=False).probs(inputs.q_values, inputs.q_values)
    greedy = changed(inputs, pi=pi, v=inputs.q_values.amax(-1))
    hard = Watkins(0.9, None)(greedy).returns
    torch.testing.assert_close(Watkins(0.9, 0.0)(greedy).returns, hard, rtol=0, atol=1e-9)
    torch.testing.assert_close(Watkins(0.9, 1e9)(greedy).returns, QLambda(0.9)(greedy).returns, rtol=0, atol=1e-9)


def test_tree_backup_at_a_greedy_pi_is_watkins() -> None:
    inputs = random_inputs(3)
    action = torch.randint(4, (6, 7), generator=torch.Generator().manual_seed(0))
    greedy = TraceInputs.of(
        inputs.q_values, Greedy(double=False).probs(inputs.q_values, inputs.q_values), action, inputs.reward,
        inputs.discount, inputs.log_mu, inputs.valid_next,
    )  # fmt: skip
    got, want = TreeBackup(0.8)(greedy), Watkins(0.8, None)(greedy)
    assert 0 < got.trace.count_nonzero() < got.trace.numel()
    torch.testing.assert_close(got.returns, want.returns, rtol=0, atol=1e-9)


def test_peng_averages_n_step_returns() -> None:
    """(1 - lambda) sum_m lambda^(m-1) G^(m), the last return taking the rest of the weight."""
    inputs = random_inputs(4, ends=0.2)
    lambda_ = 0.6
    targets = Peng(lambda_)(inputs)
    for b in range(6):
        for t in range(7):
            rewards, discount, weight, want = 0.0, 1.0, 1.0, 0.0
            for s in range(t, 7):
                rewards += discount * inputs.reward[b, s].item()
                discount *= inputs.discount[b, s].item()
                last = s == 6 or not inputs.valid_next[b, s]
                want += (weight if last else weight * (1 - lambda_)) * (rewards + discount * inputs.v[b, s + 1].item())
                weight *= lambda_
                if last:
                    break
            assert abs(targets.returns[b, t].item() - want) < 1e-9
    torch.testing.assert_close(Peng(1.0)(inputs).returns, NStep()(inputs).returns, rtol=0, atol=1e-9)
    torch.testing.assert_close(Peng(0.0)(inputs).returns, OneStep()(inputs).returns, rtol=0, atol=1e-9)


@pytest.mark.parametrize("operator", [
    Retrace, QLambda, TreeBackup, ImportanceSampling, Peng, partial(GAE, off_policy=True), RBIS,
])  # fmt: skip
@pytest.mark.parametrize("lambda_", [-0.1, 1.1, math.nan])
def test_lambda_outside_the_unit_interval_is_refused(operator: type, lambda_: float) -> None:
    with pytest.raises(ValueError, match="lambda_ must lie in"):
        operator(lambda_)


@pytest.mark.parametrize("kappa", [-0.1, math.nan])
def test_a_negative_kappa_is_refused(kappa: float) -> None:
    with pytest.raises(ValueError, match="kappa must be null or at least 0"):
        Watkins(1.0, kappa)
