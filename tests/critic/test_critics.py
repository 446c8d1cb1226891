"""Critics against high-precision oracles."""

import itertools
import math

import mpmath
import pytest
import torch

from offpol.critic.hl_gauss import HLGauss
from offpol.critic.scalar import Scalar
from offpol.value_transform import squash, unsquash


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
    critic = HLGauss(-10.0, 10.0, 51, sigma_ratio, "none", 1, 0, False)
    probs = critic.probs(torch.tensor(TARGETS))
    want = torch.tensor([hl_gauss_oracle(y, -10.0, 10.0, 51, sigma_ratio) for y in TARGETS])
    torch.testing.assert_close(probs, want, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_hl_gauss_loss_and_gradient() -> None:
    critic = HLGauss(-10.0, 10.0, 51, 0.75, "none", 1, 0, False)
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
    critic = HLGauss(v_min, 10.0, 51, 0.75, "none", 1, 0, False)
    edges = critic.edges
    grid = torch.linspace(v_min - 5, 15, 997)
    extremes = torch.tensor([-3e38, 3e38, -1e4, 1e4, 1e-40])
    targets = torch.cat([edges, critic.atoms, torch.nextafter(edges, edges + 1), grid, extremes])
    probs = critic.probs(targets)
    assert probs.isfinite().all()
    assert (probs >= 0).all()
    assert (probs.sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.usefixtures("float64")
def test_decoding_is_exact_inside_and_off_by_a_known_amount_at_an_edge() -> None:
    critic = HLGauss(-10.0, 10.0, 51, 0.75, "none", 1, 0, False)
    width = 20 / 51
    inside = torch.linspace(-10 + 4 * width, 10 - 4 * width, 501)
    assert (critic.value(critic.probs(inside).log()) - inside).abs().max() < 1e-3
    edge = critic.value(critic.probs(torch.tensor(10.0)).log()).item()
    assert 0.68 < (10.0 - edge) / width < 0.70


def test_a_narrow_sigma_is_a_one_hot_and_outside_is_told() -> None:
    critic = HLGauss(-1.0, 1.0, 4, 1e-3, "none", 1, 0, False)
    assert critic.probs(torch.tensor([-0.9, 0.3])).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert critic.clamp(torch.tensor([-1.5, -1.0, 0.5, 1.5])).tolist() == [-1.0, -1.0, 0.5, 1.0]


def test_value_is_float32_for_half_precision_logits_and_critics_broadcast() -> None:
    critic = HLGauss(-10.0, 10.0, 51, 0.75, "none", 2, 0, False)
    logits = torch.randn(2, 5, 51)
    assert critic.value(logits.bfloat16()).dtype == torch.float32
    assert critic.loss(logits, torch.randn(5)).shape == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 1.0, 51, 0.75, "none", 1, 0), "v_min must be below v_max"),
        ((-math.inf, 1.0, 51, 0.75, "none", 1, 0), "v_min must be below v_max and both finite"),
        ((0.0, math.inf, 51, 0.75, "none", 1, 0), "v_min must be below v_max and both finite"),
        ((0.0, 1.0, 1, 0.75, "none", 1, 0), "num_bins"),
        ((0.0, 1.0, 51, 0.0, "none", 1, 0), "sigma_ratio"),
        ((0.0, 1.0, 51, 0.75, "none", 0, 0), "num_critics"),
        ((0.0, 1.0, 51, 0.75, "none", 2, 3), "minimum_of"),
    ],
)
def test_hl_gauss_refuses(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HLGauss(*arguments, False)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_scalar_losses_and_gradients(delta: float) -> None:
    q = torch.tensor([[-3.0], [0.2], [0.5], [4.0], [1e4]], requires_grad=True)
    y = torch.tensor([0.0, 0.0, 1.0, 3.7, -1e4], requires_grad=True)
    gaps = [a - b for a, b in zip(q.squeeze(-1).tolist(), y.tolist(), strict=True)]
    huber = [0.5 * x * x if abs(x) <= delta else delta * (abs(x) - 0.5 * delta) for x in gaps]
    clipped = [math.copysign(min(abs(x), delta), x) for x in gaps]
    for error, loss, grad in [("huber", huber, clipped), ("mse", [0.5 * x * x for x in gaps], gaps)]:
        got = Scalar(error, delta, "none", 1, 0, False).loss(q, y)
        torch.testing.assert_close(got.detach(), torch.tensor(loss), rtol=1e-12, atol=1e-9)
        (got_grad,) = torch.autograd.grad(got.sum(), q)
        torch.testing.assert_close(got_grad.squeeze(-1), torch.tensor(grad), rtol=0, atol=1e-9)


def transform_oracle(x: float) -> float:
    with mpmath.workdps(40):
        x = mpmath.mpf(x)
        return float(mpmath.sign(x) * (mpmath.sqrt(abs(x) + 1) - 1) + mpmath.mpf(0.001) * x)


def test_the_value_transform_and_its_inverse_are_exact_in_float32() -> None:
    x = torch.cat([torch.logspace(-30, 8, 400), torch.tensor([0.0, 1.0, 1e-3])])
    x = torch.cat([x, -x])
    want = torch.tensor([transform_oracle(v) for v in x.tolist()], dtype=torch.float64)
    assert ((squash(x).double() - want).abs() <= 4e-7 * want.abs()).all()
    assert ((unsquash(squash(x)) - x).abs() <= 1e-6 * x.abs()).all()
    exact = unsquash(want)
    assert ((exact - x.double()).abs() <= 1e-12 * x.double().abs()).all()


@pytest.mark.usefixtures("float64")
def test_a_transformed_critic_learns_h_of_the_return() -> None:
    y = torch.tensor([-300.0, -0.3, 0.0, 20.0, 299.0])
    scalar = Scalar("mse", 1.0, "signed_hyperbolic", 1, 0, False)
    h = torch.tensor([transform_oracle(v) for v in y.tolist()])
    torch.testing.assert_close(scalar.loss(torch.zeros(5, 1), y), 0.5 * h * h, rtol=0, atol=1e-9)
    torch.testing.assert_close(scalar.value(h.unsqueeze(-1)), y, rtol=1e-9, atol=1e-9)
    hl_gauss = HLGauss(-300.0, 300.0, 51, 0.75, "signed_hyperbolic", 1, 0, False)
    high = transform_oracle(300.0)
    want = torch.tensor([hl_gauss_oracle(v, -high, high, 51, 0.75) for v in h.tolist()])
    torch.testing.assert_close(hl_gauss.probs(y), want, rtol=0, atol=1e-9)
    inside = torch.tensor([-100.0, -1.0, 0.5, 150.0])
    assert ((hl_gauss.value(hl_gauss.probs(inside).log()) - inside).abs() < 0.01 * inside.abs() + 0.01).all()
    assert hl_gauss.clamp(torch.tensor([-301.0, 299.0, 301.0])).tolist() == [-300.0, 299.0, 300.0]


def test_an_ensemble_joins_by_its_mean_or_a_random_subsets_minimum() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(4, 1, 1).expand(4, 3, 2)
    mean = Scalar("mse", 1.0, "none", 4, 0, False).join(values)
    assert mean.shape == (3, 2)
    assert (mean == 3.75).all()
    torch.manual_seed(0)
    pairs = Scalar("mse", 1.0, "none", 4, 2, False)
    drawn = torch.tensor([pairs.join(values)[0, 0].item() for _ in range(1200)])
    for value, chance in [(1.0, 3 / 6), (2.0, 2 / 6), (4.0, 1 / 6), (8.0, 0.0)]:
        assert (drawn == value).float().mean().item() == pytest.approx(chance, abs=0.06)
    assert (Scalar("mse", 1.0, "none", 4, 4, False).join(values) == 1.0).all()
