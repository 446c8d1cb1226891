"""Operators whose coefficients look beyond one action: RBIS along the window, C-trace across the batch."""

import math

import pytest
import torch
from trace_cases import changed, max_gap, random_inputs, sums

from offpol.trace.c_trace import CTrace
from offpol.trace.rbis import RBIS
from offpol.trace.retrace import Retrace


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_rbis_equals_the_papers_sum(seed: int, lambda_: float) -> None:
    inputs = random_inputs(seed)
    targets = RBIS(lambda_)(inputs)
    q, v, r, d, k, log_pi, log_mu = (
        x.tolist() for x in (inputs.q, inputs.v, inputs.reward, inputs.discount, inputs.valid_next, inputs.log_pi,
                             inputs.log_mu)
    )  # fmt: skip
    for b in range(6):
        for t in range(7):
            total, beta, discount = q[b][t], 1.0, 1.0
            for s in range(t, 7):
                if s > t:
                    if not k[b][s - 1]:
                        break
                    discount *= d[b][s - 1]
                    beta = min(lambda_ ** (s - t), math.exp(log_pi[b][s] - log_mu[b][s]) * beta)
                total += discount * beta * (r[b][s] + d[b][s] * v[b][s + 1] - q[b][s])
                if t == 0:
                    product = math.prod(targets.trace[b, 1 : s + 1].tolist())
                    assert product == pytest.approx(beta, rel=1e-9, abs=1e-12)
            assert abs(targets.returns[b, t].item() - total) < 1e-9


def test_rbis_recovers_where_retrace_stays_cut() -> None:
    inputs = random_inputs(8, ends=0.0)
    above = changed(inputs, log_pi=inputs.log_mu + 0.1)
    torch.testing.assert_close(RBIS(0.9)(above).returns, Retrace(0.9)(above).returns, rtol=0, atol=1e-9)
    log_ratio = torch.tensor([0.0, -2.0, 3.0, 0.0, 0.0, 0.0, 0.0]).double()
    dipped = changed(inputs, log_pi=inputs.log_mu + log_ratio)
    rbis, retrace = RBIS(0.9)(dipped).trace[:, 1:3].prod(1), Retrace(0.9)(dipped).trace[:, 1:3].prod(1)
    assert (rbis > 5 * retrace).all()


@pytest.mark.parametrize("contraction", [0.0, 0.6, 0.75, 1.0])
def test_c_trace_meets_its_contraction_with_the_largest_alpha(contraction: float) -> None:
    inputs = random_inputs(9, ends=0.1)
    targets = CTrace(0.9, contraction)(inputs)
    rho = (inputs.log_pi - inputs.log_mu).exp()
    below = rho < 0.999
    alphas = (1 - targets.trace[below] / 0.9) / (1 - rho[below])
    alpha = alphas[0].item()
    torch.testing.assert_close(alphas, torch.full_like(alphas, alpha))

    def rate(alpha: float) -> float:
        """How far returns move when every value moves by 1."""
        moves = []
        for b in range(6):
            move = inputs.discount[b, -1].item()
            for t in range(5, -1, -1):
                c = 0.9 * min(1.0, alpha * rho[b, t + 1].item() + 1 - alpha)
                move = inputs.discount[b, t].item() * (1 + inputs.valid_next[b, t].item() * c * (move - 1))
            moves.append(move)
        return sum(moves) / 6

    assert rate(0) < 0.6 < 0.75 < rate(1)
    assert alpha == pytest.approx({0.0: 0.0, 1.0: 1.0}.get(contraction, alpha), abs=1e-9)
    if 0 < contraction < 1:
        assert rate(alpha) <= contraction < rate(alpha + 1e-4)
    goes_on = inputs.valid_next[:, :-1]
    v = inputs.v.clone()
    v[:, 1:-1] = torch.where(goes_on, alpha * v[:, 1:-1] + (1 - alpha) * inputs.q[:, 1:], v[:, 1:-1])
    assert max_gap(targets.returns, sums(changed(inputs, v=v), targets.trace.tolist())) < 1e-9
    if contraction == 1.0:
        torch.testing.assert_close(targets.returns, Retrace(0.9)(inputs).returns, rtol=0, atol=1e-9)
