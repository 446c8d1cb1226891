"""Munchausen's bonus, against the paper's one-step target."""

import math

import pytest
import torch
from trace_cases import random_inputs

from offpol.policy.munchausen import Munchausen
from offpol.trace.one_step import OneStep
from offpol.trace.retrace import Retrace


def softmax(logits: list[float]) -> list[float]:
    exps = [math.exp(x - max(logits)) for x in logits]
    return [x / sum(exps) for x in exps]


def test_munchausens_one_step_target_is_the_papers() -> None:
    """r + alpha [tau log pi(a|s)]_{l0}^0 + d sum_a' pi(a'|s') (q(s', a') - tau log pi(a'|s'))."""
    tau, alpha, low = 0.5, 0.9, -1.0
    policy = Munchausen(tau, alpha, low)
    windows = random_inputs(0)
    pi = policy.probs(windows.q_values, windows.q_values)
    inputs = type(windows).of(
        windows.q_values, pi, windows.action, windows.reward, windows.discount, windows.log_mu, windows.valid_next
    )
    returns = OneStep()(policy.regularise(inputs)).returns
    q_values, action = windows.q_values.tolist(), windows.action.tolist()
    for b in range(6):
        for t in range(7):
            here = softmax([x / tau for x in q_values[b][t]])
            there = softmax([x / tau for x in q_values[b][t + 1]])
            soft = sum(p * (x - tau * math.log(p)) for p, x in zip(there, q_values[b][t + 1], strict=True))
            bonus = alpha * min(max(tau * math.log(here[action[b][t]]), low), 0.0)
            want = windows.reward[b, t].item() + bonus + windows.discount[b, t].item() * soft
            assert returns[b, t].item() == pytest.approx(want, abs=1e-9)


def test_munchausen_survives_probabilities_of_zero() -> None:
    policy = Munchausen(0.03, 0.9, -1.0)
    windows = random_inputs(1)
    pi = policy.probs(1e4 * windows.q_values, windows.q_values)
    inputs = type(windows).of(
        windows.q_values, pi, windows.action, windows.reward, windows.discount, windows.log_mu, windows.valid_next
    )
    got = policy.regularise(inputs)
    assert (inputs.log_pi == -torch.inf).any()
    assert got.reward.isfinite().all()
    assert Retrace(0.9)(got).returns.isfinite().all()
