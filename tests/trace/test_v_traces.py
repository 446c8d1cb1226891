"""Operators on state values against V-trace's sum, and against each other."""

import math

import pytest
import torch
from trace_cases import changed, random_inputs

from offpol.trace.gae import GAE
from offpol.trace.n_step import NStep
from offpol.trace.peng import Peng
from offpol.trace.puffer import Puffer
from offpol.trace.vtrace import VTrace
from offpol.types import TraceInputs

CLIPS = [(1.0, 1.0), (2.0, 0.7), (0.5, 1.0), (math.inf, math.inf)]


def vs_oracle(inputs: TraceInputs, lambda_: float, rho_clip: float, c_clip: float) -> list[list[float]]:
    """v_t + sum_s (prod_{i=t}^{s-1} d_i k_i c_i) rho_s delta_s, the last column being v_n."""
    v, r, d = (x.tolist() for x in (inputs.v, inputs.reward, inputs.discount))
    k, ratios = inputs.valid_next.tolist(), (inputs.log_pi.exp() / inputs.log_mu.exp()).tolist()
    windows, n = inputs.reward.shape
    out = []
    for b in range(windows):
        row = []
        for t in range(n):
            total = v[b][t]
            for s in range(t, n):
                kept = [d[b][i] * k[b][i] * lambda_ * min(c_clip, ratios[b][i]) for i in range(t, s)]
                td_error = r[b][s] + d[b][s] * v[b][s + 1] - v[b][s]
                total += math.prod(kept) * min(rho_clip, ratios[b][s]) * td_error
            row.append(total)
        out.append([*row, v[b][n]])
    return out


def q_estimates(inputs: TraceInputs, vs: list[list[float]]) -> torch.Tensor:
    """r_t + d_t vs_{t+1}, where an episode's end has v in place of vs."""
    vs_next = torch.tensor(vs, dtype=torch.float64)[:, 1:]
    v_next = inputs.v[:, 1:]
    inside = inputs.valid_next.clone()
    inside[:, -1] = True
    return inputs.reward + inputs.discount * torch.where(inside, vs_next, v_next)


@pytest.mark.parametrize(("rho_clip", "c_clip"), CLIPS)
@pytest.mark.parametrize("seed", range(3))
def test_vtrace_and_puffer_equal_the_papers_sum(seed: int, rho_clip: float, c_clip: float) -> None:
    inputs = random_inputs(seed)
    vs = vs_oracle(inputs, 0.8, rho_clip, c_clip)
    advantage = torch.tensor(vs, dtype=torch.float64)[:, :-1] - inputs.v[:, :-1]
    returns = q_estimates(inputs, vs)
    scale = advantage.abs().max().clamp(min=1).item()
    vtrace, puffer = VTrace(0.8, rho_clip, c_clip)(inputs), Puffer(0.8, rho_clip, c_clip)(inputs)
    torch.testing.assert_close(puffer.advantage, advantage, rtol=0, atol=1e-9 * scale)
    torch.testing.assert_close(puffer.returns, returns, rtol=0, atol=1e-9 * scale)
    torch.testing.assert_close(vtrace.returns, returns, rtol=0, atol=1e-9 * scale)
    torch.testing.assert_close(vtrace.advantage, returns - inputs.v[:, :-1], rtol=0, atol=1e-9 * scale)
    want = 0.8 * (inputs.log_pi - inputs.log_mu).exp().clamp(max=c_clip)
    torch.testing.assert_close(vtrace.trace, want, rtol=1e-9, atol=0)
    torch.testing.assert_close(puffer.trace, want, rtol=1e-9, atol=0)


def test_ratios_of_one_make_puffer_gae() -> None:
    inputs = random_inputs(1)
    on_policy = changed(inputs, log_mu=inputs.log_pi)
    want = GAE(0.8, True)(inputs).advantage
    torch.testing.assert_close(Puffer(0.8, 1.0, 1.0)(on_policy).advantage, want, rtol=0, atol=1e-9)


def test_gae_is_the_discounted_sum_of_td_errors() -> None:
    inputs = random_inputs(2)
    on_policy = changed(inputs, log_mu=inputs.log_pi)
    vs = torch.tensor(vs_oracle(on_policy, 0.8, 1.0, 1.0), dtype=torch.float64)[:, :-1]
    targets = GAE(0.8, True)(inputs)
    torch.testing.assert_close(targets.returns, vs, rtol=0, atol=1e-9)
    torch.testing.assert_close(targets.advantage, vs - inputs.v[:, :-1], rtol=0, atol=1e-9)
    torch.testing.assert_close(targets.returns, Peng(0.8)(inputs).returns, rtol=0, atol=1e-9)


def test_on_policy_vtrace_is_n_step() -> None:
    inputs = random_inputs(3)
    on_policy = changed(inputs, log_mu=inputs.log_pi)
    want = NStep()(inputs).returns
    torch.testing.assert_close(VTrace(1.0, 1.0, 1.0)(on_policy).returns, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("operator", [VTrace, Puffer])
@pytest.mark.parametrize("clips", [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_clips_that_are_not_positive_are_refused(operator: type, clips: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="_clip must be positive"):
        operator(1.0, *clips)
