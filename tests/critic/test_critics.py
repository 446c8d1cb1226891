"""Critics against high-precision oracles."""

import itertools
import math

import mpmath
import pytest
import torch

from offpol.critic.hl_gauss import HLGauss
from offpol.critic.scalar import Scalar


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def hl_gauss_oracle(y: float, v_min: float, v_max: float, bins: int, sigma_ratio: float) -> list[float]:
    """The paper's formula with 60 digits, where the textbook form cannot underflow."""
    with mpmath.workdps(60):
        y = min(max(mpmath.mpf(y), v_min), v_max)
        width = (mpmath.mpf(v_max) - v_min) / bins
        cdf = [mpmath.ncdf((v_min + i * width - y) / (sigma_ratio * width)) for i in range(bins + 1)]
        return [float((b - a) / (cdf[-1] - cdf[0])) for a, b in itertools.pairwise(cdf)]


TARGETS = [-10.0, -9.999, -3.7, 0.0, 0.196, 5.0, 9.8, 10.0, 10.5, 1e4, -1e30]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("sigma_ratio", [0.1, 0.75, 3.0])
def test_hl_gauss_encodes_as_the_paper_says(sigma_ratio: float) -> None:
    critic = HLGauss(-10.0, 10.0, 51, sigma_ratio, 1)
    probs = critic.probs(torch.tensor(TARGETS))
    want = torch.tensor([hl_gauss_oracle(y, -10.0, 10.0, 51, sigma_ratio) for y in TARGETS])
    torch.testing.assert_close(probs, want, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_hl_gauss_loss_and_gradient() -> None:
    critic = HLGauss(-10.0, 10.0, 51, 0.75, 1)
    torch.manual_seed(0)
    logits = (3 * torch.randn(len(TARGETS), 51)).requires_grad_()
    returns = torch.tensor(TARGETS, requires_grad=True)
    loss = critic.loss(logits, returns)
    want = torch.tensor([hl_gauss_oracle(y, -10.0, 10.0, 51, 0.75) for y in TARGETS])
    softmax = logits.detach().exp() / logits.detach().exp().sum(-1, keepdim=True)
    torch.testing.assert_close(loss.detach(), -(want * softmax.log()).sum(-1), rtol=0, atol=1e-9)
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, softmax - want, rtol=0, atol=1e-9)
    assert returns.grad is None


@pytest.mark.parametrize("v_min", [-10.0, 0.0, -1e4])
def test_any_finite_target_gives_a_distribution_in_float32(v_min: float) -> None:
    critic = HLGauss(v_min, 10.0, 51, 0.75, 1)
    edges = critic.edges
    grid = torch.linspace(v_min - 5, 15, 997)
    extremes = torch.tensor([-3e38, 3e38, -1e4, 1e4, 1e-40])
    targets = torch.cat([edges, critic.centres, torch.nextafter(edges, edges + 1), grid, extremes])
    probs = critic.probs(targets)
    assert probs.isfinite().all()
    assert (probs >= 0).all()
    assert (probs.sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.usefixtures("float64")
def test_decoding_is_exact_inside_and_off_by_a_known_amount_at_an_edge() -> None:
    critic = HLGauss(-10.0, 10.0, 51, 0.75, 1)
    width = 20 / 51
    inside = torch.linspace(-10 + 4 * width, 10 - 4 * width, 501)
    assert (critic.value(critic.probs(inside).log()) - inside).abs().max() < 1e-3
    edge = critic.value(critic.probs(torch.tensor(10.0)).log()).item()
    assert 0.68 < (10.0 - edge) / width < 0.70


def test_a_narrow_sigma_is_a_one_hot_and_outside_is_told() -> None:
    critic = HLGauss(-1.0, 1.0, 4, 1e-3, 1)
    assert critic.probs(torch.tensor([-0.9, 0.3])).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert critic.outside(torch.tensor([-1.1, -1.0, 1.0, 1.01])).tolist() == [True, False, False, True]


def test_value_is_float32_for_half_precision_logits_and_critics_broadcast() -> None:
    critic = HLGauss(-10.0, 10.0, 51, 0.75, 2)
    logits = torch.randn(2, 5, 51)
    assert critic.value(logits.bfloat16()).dtype == torch.float32
    assert critic.loss(logits, torch.randn(5)).shape == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1.0, 1.0, 51, 0.75, 1), "v_min must be below v_max"), ((0.0, 1.0, 1, 0.75, 1), "num_bins"),
     ((0.0, 1.0, 51, 0.0, 1), "sigma_ratio"), ((0.0, 1.0, 51, 0.75, 0), "num_critics")],
)  # fmt: skip
def test_hl_gauss_refuses(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HLGauss(*arguments)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_scalar_losses_and_gradients(delta: float) -> None:
    q = torch.tensor([[-3.0], [0.2], [0.5], [4.0], [1e4]], requires_grad=True)
    y = torch.tensor([0.0, 0.0, 1.0, 3.7, -1e4], requires_grad=True)
    gaps = [a - b for a, b in zip(q.squeeze(-1).tolist(), y.tolist(), strict=True)]
    huber = [0.5 * x * x if abs(x) <= delta else delta * (abs(x) - 0.5 * delta) for x in gaps]
    clipped = [math.copysign(min(abs(x), delta), x) for x in gaps]
    for error, loss, grad in [("huber", huber, clipped), ("mse", [0.5 * x * x for x in gaps], gaps)]:
        got = Scalar(error, delta, 1).loss(q, y)
        torch.testing.assert_close(got.detach(), torch.tensor(loss), rtol=1e-12, atol=1e-9)
        (got_grad,) = torch.autograd.grad(got.sum(), q)
        torch.testing.assert_close(got_grad.squeeze(-1), torch.tensor(grad), rtol=0, atol=1e-9)
