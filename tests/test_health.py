"""The length of a trace, whatever its coefficients are, against sums written out."""

import math
from types import SimpleNamespace

import pytest
import torch

from offpol.health import health
from offpol.trace.importance_sampling import ImportanceSampling
from offpol.trace.n_step import NStep
from offpol.trace.one_step import OneStep
from offpol.trace.rbis import RBIS
from offpol.trace.retrace import Retrace
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
