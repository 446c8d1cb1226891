"""Towards a greedy policy from epsilon-greedy data, every operator that cuts is one and the same."""

import pytest
import torch
from trace_cases import GAMMA

from offpol.actions import greedy_probs, mix_uniform
from offpol.trace.puffer import Puffer
from offpol.trace.rbis import RBIS
from offpol.trace.retrace import Retrace
from offpol.trace.tree_backup import TreeBackup
from offpol.trace.vtrace import VTrace
from offpol.trace.watkins import Watkins
from offpol.types import TraceInputs


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_all_that_cut_agree_on_a_greedy_policy(seed: int, epsilon: float) -> None:
    """rho is 0 or above 1 there, and v is Q of the greedy action: docs/study.md builds on it."""
    g = torch.Generator().manual_seed(seed)
    old, q = torch.randn(2, 200, 9, 4, generator=g, dtype=torch.float64)
    old[:100] = q[:100]  # half of the windows were gathered by the policy of now
    mu = mix_uniform(greedy_probs(old), epsilon)
    action = torch.multinomial(mu.flatten(0, 1), 1, generator=g).view(200, 9)[:, :-1]
    terminated = torch.rand(200, 8, generator=g) < 0.1
    inputs = TraceInputs.of(
        q_values=q, pi=greedy_probs(q), action=action, reward=torch.randn(200, 8, generator=g, dtype=torch.float64),
        discount=GAMMA * (~terminated).double(), log_mu=mu[:, :-1].gather(-1, action.unsqueeze(-1)).squeeze(-1).log(),
        valid_next=~terminated,
    )  # fmt: skip
    retrace = Retrace(1.0)(inputs).returns
    for other in (TreeBackup(1.0), Watkins(1.0, None), RBIS(1.0), VTrace(1.0, 1.0, 1.0), Puffer(1.0, 1.0, 1.0)):
        torch.testing.assert_close(other(inputs).returns, retrace, rtol=0, atol=1e-12)
    one_step = inputs.reward + inputs.discount * inputs.v[:, 1:]
    assert (retrace != one_step).any()
