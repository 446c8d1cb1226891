"""The length of a trace and what ends it, whatever its coefficients are, against sums and loops written out."""

import math
from types import SimpleNamespace

import pytest
import torch
from trace_cases import random_inputs

from offpol.actions import greedy_probs, mix_uniform
from offpol.health import CUT, health, trace_ends, trace_lengths
from offpol.trace.importance_sampling import ImportanceSampling
from offpol.trace.n_step import NStep
from offpol.trace.one_step import OneStep
from offpol.trace.q_lambda import QLambda
from offpol.trace.rbis import RBIS
from offpol.trace.retrace import Retrace
from offpol.trace.tree_backup import TreeBackup
from offpol.types import TraceInputs

RATIOS = [(0.25, 8.0, 1.0), (4.0, 0.5, 0.5), (1e30, 1e30, 1e30), (0.0, 5.0, 5.0)]  # rho of rows 1, 2, 3 by window


def length(trace, valid_next=None) -> float:
    """Feed windows whose ratios are RATIOS (row 0's never matters) and read the metric."""
    zeros, ones = torch.zeros(4, 4), torch.ones(4, 4, dtype=torch.bool)
    batch = SimpleNamespace(valid=ones, policy_version=zeros, replay_weight=torch.ones(4), reward=zeros)
    log_pi = torch.tensor([[0.7, *rho] for rho in RATIOS], dtype=torch.float64).log().float()
    inputs = TraceInputs.of(
        q_values=torch.zeros(4, 5, 3), pi=torch.full((4, 5, 3), 1 / 3), action=torch.zeros(4, 4, dtype=torch.int64),
        reward=torch.ones(4, 4), discount=torch.full((4, 4), 0.9), log_mu=torch.full((4, 4), 0.0),
        valid_next=torch.ones(4, 4, dtype=torch.bool) if valid_next is None else valid_next,
    )  # fmt: skip
    object.__setattr__(inputs, "log_pi", log_pi)
    return float(health(batch, inputs, trace(inputs), 0)["trace_length"])


def mean_of(weights) -> float:
    """1 + the sum of min(1, weight) over later rows, averaged over the windows."""
    return 1 + sum(sum(min(1.0, w) for w in weights(*rho)) for rho in RATIOS) / len(RATIOS)


def rbis(a, b, c):
    first = min(0.9, a)
    second = min(0.9**2, b * first)
    return first, second, min(0.9**3, c * second)


@pytest.mark.parametrize(("trace", "weights"), [
    (OneStep(), lambda a, b, c: (0, 0, 0)),
    (NStep(), lambda a, b, c: (1, 1, 1)),
    (Retrace(0.9), lambda a, b, c: tuple(math.prod(0.9 * min(1, r) for r in (a, b, c)[:k]) for k in (1, 2, 3))),
    (ImportanceSampling(1.0), lambda a, b, c: (a, a * b, a * b * c)),
    (RBIS(0.9), rbis),
])  # fmt: skip
def test_trace_length_is_the_sum_of_bounded_weights(trace, weights) -> None:
    assert length(trace) == pytest.approx(mean_of(weights), rel=1e-5)


def test_a_length_ends_with_its_episode() -> None:
    valid_next = torch.ones(4, 4, dtype=torch.bool)
    valid_next[:, 1] = False
    assert length(NStep(), valid_next) == pytest.approx(2.0)


def test_a_cut_is_counted_only_where_a_trace_could_have_gone_on() -> None:
    """An episode's first row follows a bootstrap row, whose `valid_next` is set: nothing goes on to it."""
    valid = torch.tensor([[True, False, True, True]])
    zeros, pi = torch.zeros(1, 4), torch.tensor([0.01, 0.33, 0.33, 0.33]).expand(1, 5, 4)
    inputs = TraceInputs.of(
        q_values=torch.zeros(1, 5, 4), pi=pi, action=zeros.long(), reward=zeros, discount=zeros + 0.9,
        log_mu=torch.tensor([[0.01, 0.01, 1.0, 0.01]]).log(),
        valid_next=torch.tensor([[False, True, True, True]]),
    )  # fmt: skip
    batch = SimpleNamespace(valid=valid, policy_version=zeros, replay_weight=torch.ones(1), reward=zeros)
    assert float(health(batch, inputs, Retrace(0.9)(inputs), 0)["trace_cut_share"]) == 0.0


def ends_by_hand(inputs: TraceInputs, trace) -> list[str]:
    """Follow each return until its weight is below 0.05 for good, in plain Python."""
    c, log_rho, log_mu = (x.tolist() for x in (trace(inputs).trace, inputs.log_pi - inputs.log_mu, inputs.log_mu))
    follows = (inputs.valid_next & (inputs.discount > 0)).tolist()
    n = inputs.q.shape[1]
    most = min(1.0, max(c[b][t] for b in range(len(c)) for t in range(1, n) if follows[b][t - 1]))

    def end(b: int) -> str:
        weights = [math.prod(c[b][j] * follows[b][j - 1] for j in range(1, t + 1)) for t in range(1, n)]
        for t in range(1, n):
            if all(weight < CUT for weight in weights[t - 1 :]):
                if not follows[b][t - 1]:
                    return "episode"
                if c[b][t] < 0.999 * most and (log_rho[b][t] < 0 or c[b][t] < CUT):
                    return "policy_change" if math.exp(log_mu[b][t]) > 1 / inputs.pi.shape[-1] else "exploration"
                return "faded"
        return "window"

    return [end(b) for b in range(len(c))]


@pytest.mark.parametrize("trace", [
    OneStep(), NStep(), QLambda(0.3), Retrace(0.9), TreeBackup(1.0), RBIS(0.9), ImportanceSampling(1.0),
], ids=repr)  # fmt: skip
def test_what_ends_a_return_is_found_by_following_it(trace) -> None:
    seen = set()
    for seed in range(4):
        inputs = random_inputs(seed, windows=40, n=6, ends=0.1)
        found = trace_ends(inputs, trace(inputs))
        assert torch.stack(list(found.values())).sum(0).eq(1).all()
        by_hand = ends_by_hand(inputs, trace)
        assert [[name for name, ended in found.items() if ended[b]] for b in range(40)] == [[name] for name in by_hand]
        seen |= set(by_hand)
    reasons = {"OneStep": {"faded"}, "QLambda": {"faded"}, "NStep": set()}
    expected = reasons.get(type(trace).__name__, {"exploration", "policy_change"})
    assert seen >= expected | {"episode"}
    assert seen <= expected | {"episode", "window", "faded"}


@pytest.mark.parametrize("epsilon", [0.999, 0.3, 0.01])
def test_explored_actions_are_told_from_those_that_were_greedy_then(epsilon: float) -> None:
    """Epsilon-greedy over old values, ties included, cut by Retrace towards the greedy policy of new values."""
    g = torch.Generator().manual_seed(0)
    shape, actions = (4000, 3), 4
    old, new = (torch.randint(3, (*shape, actions), generator=g).float() for _ in range(2))
    greedy_then = greedy_probs(old)
    mu = mix_uniform(greedy_then, epsilon)
    action = torch.multinomial(mu.flatten(0, 1), 1, generator=g).view(shape)
    taken = action.unsqueeze(-1)
    q = torch.cat([new, new[:, :1]], 1)
    inputs = TraceInputs.of(
        q_values=q, pi=greedy_probs(q), action=action, reward=torch.zeros(shape), discount=torch.ones(shape),
        log_mu=mu.gather(-1, taken).squeeze(-1).log(), valid_next=torch.ones(shape, dtype=torch.bool),
    )  # fmt: skip
    found = trace_ends(inputs, Retrace(1.0)(inputs))
    refused = inputs.log_pi[:, 1:].isneginf()
    row = refused.float().argmax(1, keepdim=True) + 1  # the first row after row 0 that pi does not take
    was_greedy = greedy_then.gather(-1, taken).squeeze(-1).gather(1, row).squeeze(1) > 0
    all_tie = (greedy_then == 1 / actions).all(-1).gather(1, row).squeeze(1)
    cut = refused.any(1)
    assert found["policy_change"].equal(cut & was_greedy & ~all_tie)
    assert found["exploration"].equal(cut & (~was_greedy | all_tie))
    assert found["window"].equal(~cut)
    assert min(int(found[name].sum()) for name in ("policy_change", "exploration")) > (20 if epsilon == 0.01 else 200)


def test_numbers_by_age_are_those_of_each_quarter() -> None:
    inputs = random_inputs(0, windows=10, n=5)
    version = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    ones = torch.ones(10, 5, dtype=torch.bool)
    batch = SimpleNamespace(
        valid=ones, policy_version=version[:, None].expand(10, 5), replay_weight=torch.ones(10), reward=inputs.reward
    )
    targets = Retrace(0.9)(inputs)
    found = health(batch, inputs, targets, updates=21)
    lengths = trace_lengths(inputs, targets)
    ratios = (inputs.log_pi - inputs.log_mu).exp()
    for i, size in enumerate((3, 3, 2, 2), start=1):
        members = sorted(range(10), key=lambda b: -int(version[b]))[sum((3, 3, 2, 2)[: i - 1]) :][:size]
        mine = ratios[members].flatten().tolist()
        expected = {
            "updates": 20 - sum(int(version[b]) for b in members) / size,
            "trace_length": sum(float(lengths[b]) for b in members) / size,
            "one_step": sum(float(lengths[b]) < 1.05 for b in members) / size,
            "rho_near_zero": sum(r < CUT for r in mine) / len(mine),
            "rho_above_one": sum(r > 1 for r in mine) / len(mine),
            "rho_ess": sum(mine) ** 2 / sum(r * r for r in mine) / len(mine),
        }  # fmt: skip
        for name, number in expected.items():
            assert float(found[f"by_age/{name}_{i}"]) == pytest.approx(number, rel=1e-5), (name, i)
    assert found["trace_length_uncut"] == health(batch, inputs, NStep()(inputs), 21)["trace_length"]
    assert 0 < found["one_step_share"] < 1
    assert found["one_step_share"] == (lengths < 1.05).float().mean()
    assert health(batch, inputs, OneStep()(inputs), 21)["one_step_share"] == 1


def test_a_window_of_one_step_has_nothing_to_cut() -> None:
    inputs = random_inputs(0, windows=5, n=1)
    found = trace_ends(inputs, Retrace(0.9)(inputs))
    assert found["window"].all()
    assert trace_lengths(inputs, Retrace(0.9)(inputs)).eq(1).all()
