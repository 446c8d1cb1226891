"""Trace operators against the papers' sums, written out in plain float64 Python."""

import math

import pytest
import torch

from offpol.trace.n_step import NStep
from offpol.trace.one_step import OneStep
from offpol.trace.retrace import Retrace
from offpol.types import TraceInputs

GAMMA = 0.9


def random_inputs(seed: int, windows: int = 6, n: int = 7, actions: int = 4, ends: float = 0.25) -> TraceInputs:
    """Windows with random values, policies, behaviors, terminations and truncations, in float64."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    terminated = rand(windows, n) < ends
    truncated = rand(windows, n) < ends
    pi = torch.softmax(4 * rand(windows, n + 1, actions), -1)
    return TraceInputs.of(
        q_values=6 * rand(windows, n + 1, actions) - 3, pi=pi,
        action=torch.randint(actions, (windows, n), generator=g), reward=2 * rand(windows, n) - 1,
        discount=GAMMA * (~terminated), log_mu=torch.log(0.02 + 0.98 * rand(windows, n)),
        valid_next=~(terminated | truncated),
    )  # fmt: skip


def explicit_sum(inputs: TraceInputs, b: int, t: int, c: list[float]) -> float:
    """Q(s_t, a_t) + sum_{s>=t} (prod_{i=t}^{s-1} d_i k_i) (prod_{i=t+1}^{s} c_i) delta_s (Munos et al., eq. 3)."""
    q, v, r, d = (x[b].tolist() for x in (inputs.q, inputs.v, inputs.reward, inputs.discount))
    k = inputs.valid_next[b].tolist()
    total = q[t]
    for s in range(t, len(r)):
        if not all(k[t:s]):
            break
        total += math.prod(d[t:s]) * math.prod(c[t + 1 : s + 1]) * (r[s] + d[s] * v[s + 1] - q[s])
    return total


def retrace_coefficients(inputs: TraceInputs, b: int, lambda_: float) -> list[float]:
    pairs = zip(inputs.log_pi[b].tolist(), inputs.log_mu[b].tolist(), strict=True)
    return [lambda_ * min(1.0, math.exp(log_pi) / math.exp(log_mu)) for log_pi, log_mu in pairs]


def max_gap(got: torch.Tensor, want: list[list[float]]) -> float:
    return (got - torch.tensor(want, dtype=torch.float64)).abs().max().item()


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_retrace_equals_the_papers_sum(seed: int, lambda_: float) -> None:
    inputs = random_inputs(seed)
    targets = Retrace(lambda_)(inputs)
    windows, n = inputs.q.shape
    c = [retrace_coefficients(inputs, b, lambda_) for b in range(windows)]
    assert max_gap(targets.trace, c) < 1e-12
    want = [[explicit_sum(inputs, b, t, c[b]) for t in range(n)] for b in range(windows)]
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
                ended = TraceInputs(**{**vars(inputs), "discount": inputs.discount * inputs.valid_next})
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
    never = TraceInputs(**{**vars(inputs), "log_pi": torch.full_like(inputs.log_pi, -torch.inf)})
    targets = Retrace(1.0)(never)
    assert (targets.trace == 0).all()
    torch.testing.assert_close(targets.returns, OneStep()(inputs).returns, rtol=0, atol=1e-9)


@pytest.mark.parametrize("lambda_", [-0.1, 1.1, math.nan])
def test_lambda_outside_the_unit_interval_is_refused(lambda_: float) -> None:
    with pytest.raises(ValueError, match="lambda_ must lie in"):
        Retrace(lambda_)
