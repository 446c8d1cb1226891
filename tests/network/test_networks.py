"""Networks answer the right shapes, scale bytes exactly, and refuse what they cannot see."""

import copy
import dataclasses

import pytest
import torch

from offpol.critic.categorical import Categorical
from offpol.critic.hl_gauss import HLGauss
from offpol.critic.two_hot import TwoHot
from offpol.ensemble import Networks
from offpol.layers import (
    EnsembleLinear,
    EnsembleNorm,
    Heads,
    HeadsConfig,
    NoisyEnsembleLinear,
    NoisyLinear,
    ScaledConv2d,
    SpectralConv2d,
    is_noisy,
)
from offpol.network.data_efficient import DataEfficient
from offpol.network.impala import Impala
from offpol.network.minatar import MinAtar
from offpol.network.mlp import MLP
from offpol.network.nature import Nature
from offpol.types import EnvSpec, Outputs

HEADS = HeadsConfig(16, 8, dueling=False, layer_norm=False, noisy=0.0, policy_gradient_to_torso=True)
IMAGE = EnvSpec("image", 2, 5, (84, 84), torch.uint8, stack=4)
SMALL = EnvSpec("small", 2, 5, (4, 10, 10), torch.uint8)
VECTOR = EnvSpec("vector", 2, 5, (3,), torch.float32)
RUNTIME = {"outputs": Outputs(torch.zeros(7), 3, True)}
CASES = [
    (lambda heads: Nature(True, heads, spec=IMAGE, **RUNTIME), IMAGE),
    (lambda heads: DataEfficient(True, heads, spec=IMAGE, **RUNTIME), IMAGE),
    (lambda heads: Impala((4, 8, 8), 2, 1, None, True, False, heads, spec=IMAGE, **RUNTIME), IMAGE),
    (lambda heads: Impala((4, 8), 1, 2, 6, False, True, heads, spec=IMAGE, **RUNTIME), IMAGE),
    (lambda heads: MinAtar(16, True, heads, spec=SMALL, **RUNTIME), SMALL),
    (lambda heads: MLP((12, 9), True, heads, spec=VECTOR, **RUNTIME), VECTOR),
]


def observations(spec: EnvSpec, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if spec.dtype == torch.uint8:
        return torch.randint(0, 256, (count, *spec.obs_shape), generator=generator).float()
    return torch.randn(count, *spec.obs_shape, generator=generator)


@pytest.mark.parametrize(("make", "spec"), CASES)
@pytest.mark.parametrize(("dueling", "noisy"), [(False, 0.0), (True, 0.5)])
def test_output_shapes_and_every_parameter_learns(make, spec, dueling, noisy) -> None:
    heads = HeadsConfig(16, 8, dueling, layer_norm=True, noisy=noisy, policy_gradient_to_torso=True)
    network = make(heads)
    output = network(observations(spec, 6))
    assert output.q_logits.shape == (3, 6, 5, 7)
    assert output.policy_logits.shape == (6, 5)
    (output.q_logits.square().sum() + output.policy_logits.square().sum()).backward()
    for name, parameter in network.named_parameters():
        if name.endswith(".left"):  # of a power iteration
            assert not parameter.requires_grad
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_bytes_are_scaled_to_one_and_gradients_agree() -> None:
    torch.manual_seed(0)
    layer = ScaledConv2d(1 / 255, 4, 3, 5, stride=5)
    plain = torch.nn.Conv2d(4, 3, 5, stride=5)
    plain.load_state_dict(layer.state_dict())
    obs = observations(IMAGE, 2)
    ours, theirs = layer(obs), plain(obs.float() / 255)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [
    lambda spec: MLP((12,), False, HEADS, spec=spec, **RUNTIME),
    lambda spec: MinAtar(4, False, HEADS, spec=spec, **RUNTIME),
    lambda spec: Impala((4,), 1, 1, None, False, False, HEADS, spec=spec, **RUNTIME),
])  # fmt: skip
def test_every_network_scales_bytes_and_nothing_else(build) -> None:
    shape, answers = (4, 20, 20), []
    unit = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    for spec, obs in (
        (EnvSpec("floats", 2, 5, shape, torch.float32), unit), (EnvSpec("bytes", 2, 5, shape, torch.uint8), 255 * unit),
        (EnvSpec("few", 2, 5, shape, torch.uint8, byte_high=10), 10 * unit),
    ):  # fmt: skip
        torch.manual_seed(0)
        answers.append(build(spec)(obs).q_logits)
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0], rtol=1e-4, atol=1e-5)


def test_policy_gradient_can_be_kept_from_the_torso() -> None:
    for reaches in (True, False):
        network = MLP((12,), False, HeadsConfig(16, 8, False, False, 0.0, reaches), spec=VECTOR, **RUNTIME)
        network(observations(VECTOR, 4)).policy_logits.sum().backward()
        assert (network.torso[0].weight.grad is not None) == reaches


def test_initial_policy_is_nearly_uniform() -> None:
    for make, spec in CASES:
        pi = make(HEADS)(observations(spec, 8)).policy_logits.softmax(-1)
        assert (pi - 0.2).abs().max() < 0.02


def test_the_policy_can_be_left_out() -> None:
    network = MLP((12,), False, HEADS, spec=VECTOR, outputs=Outputs(torch.zeros(7), 3, False))
    assert not any("policy" in name for name, _ in network.named_parameters())
    assert (network(observations(VECTOR, 4)).policy_logits == torch.zeros(4, 5)).all()


def test_dueling_matches_its_formula() -> None:
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(16, 8, True, False, 0.0, True), 6, 5, Outputs(torch.zeros(7), 1, True))
    features = torch.randn(3, 6)
    raw = heads.q_out(torch.relu(heads.q_hidden(features)).unsqueeze(0)).view(3, 6, 7)
    expected = raw[:, :1] + raw[:, 1:] - raw[:, 1:].mean(1, keepdim=True)
    torch.testing.assert_close(heads(features).q_logits[0], expected)


def test_ensemble_members_are_independent() -> None:
    torch.manual_seed(0)
    layer = EnsembleLinear(3, 4, 2)
    inputs = torch.randn(3, 5, 4)
    expected = torch.stack([inputs[h] @ layer.weight[h] + layer.bias[h] for h in range(3)])
    torch.testing.assert_close(layer(inputs), expected)


@pytest.mark.parametrize("make", [
    lambda: Nature(False, HEADS, spec=VECTOR, **RUNTIME),
    lambda: DataEfficient(False, HEADS, spec=SMALL, **RUNTIME),
    lambda: Impala((4,), 1, 1, None, False, False, HEADS, spec=VECTOR, **RUNTIME),
    lambda: MinAtar(16, False, HEADS, spec=VECTOR, **RUNTIME),
])  # fmt: skip
def test_wrong_observations_are_refused_in_one_sentence(make) -> None:
    with pytest.raises(ValueError, match=r"needs images of at least .* choose network="):
        make()


def test_images_without_channels_are_told_apart() -> None:
    with pytest.raises(ValueError, match=r"images with channels .* but image gives \(84, 84\): stack frames"):
        DataEfficient(False, HEADS, spec=dataclasses.replace(IMAGE, stack=1), **RUNTIME)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("critic", [
    HLGauss(-2.0, 20.0, 51, 0.75, "none", 2, 0, False), TwoHot(-2.0, 20.0, 51, "none", 2, 0, False),
    TwoHot(-2.0, 20.0, 51, "signed_hyperbolic", 2, 0, False), Categorical(-2.0, 20.0, 51, 2, False),
])  # fmt: skip
def test_values_start_where_the_critic_wants_them(critic, dueling) -> None:
    """A support of [-2, 20] would start at 9 otherwise."""
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(64, 8, dueling, False, 0.0, True), 32, 5, Outputs(critic.initial_logits, 2, True))
    values = critic.value(heads(torch.randn(50, 32)).q_logits)
    assert values.shape == (2, 50, 5)
    assert values.abs().mean() < 0.3


def naive_noisy(weight, sigma, before, after) -> torch.Tensor:
    """Entry by entry: w + s f(after) f(before), as weight[out][in]."""
    scaled = [[torch.sign(x) * x.abs() ** 0.5 for x in noise] for noise in (before, after)]
    return torch.stack([
        torch.stack([weight[o, i] + sigma[o, i] * scaled[1][o] * scaled[0][i] for i in range(len(before))])
        for o in range(len(after))
    ])  # fmt: skip


def test_noisy_layers_match_their_formula() -> None:
    torch.manual_seed(0)
    layer, inputs = NoisyLinear(4, 3, 0.5), torch.randn(6, 4)
    assert (layer.weight_sigma == 0.25).all()  # 0.5 / sqrt(4)
    torch.manual_seed(1)
    before, after = torch.randn(4), torch.randn(3)
    weight = naive_noisy(layer.weight, layer.weight_sigma, before, after)
    bias = naive_noisy(layer.bias[:, None], layer.bias_sigma[:, None], torch.ones(1), after)[:, 0]
    torch.manual_seed(1)
    torch.testing.assert_close(layer(inputs), inputs @ weight.T + bias)
    ensemble, both = NoisyEnsembleLinear(2, 4, 3, 0.5), torch.randn(2, 6, 4)
    torch.manual_seed(1)
    before, after = torch.randn(2, 4, 1), torch.randn(2, 1, 3)
    torch.manual_seed(1)
    answer = ensemble(both)
    for h in range(2):
        noise = before[h, :, 0], after[h, 0]
        weight = naive_noisy(ensemble.weight[h].T, ensemble.weight_sigma[h].T, *noise)
        bias = naive_noisy(ensemble.bias[h].T, ensemble.bias_sigma[h].T, torch.ones(1), noise[1])[:, 0]
        torch.testing.assert_close(answer[h], both[h] @ weight.T + bias)


def test_noise_is_fresh_at_every_call_and_gone_in_eval_mode() -> None:
    torch.manual_seed(0)
    heads = HeadsConfig(16, 8, False, False, 0.5, True)
    network, obs = MLP((12,), False, heads, spec=VECTOR, **RUNTIME), observations(VECTOR, 4)
    assert is_noisy(network)
    assert not is_noisy(MLP((12,), False, HEADS, spec=VECTOR, **RUNTIME))
    first, second = network(obs), network(obs)
    assert not torch.equal(first.q_logits, second.q_logits)
    assert torch.equal(first.policy_logits, second.policy_logits)
    network.eval()
    assert torch.equal(network(obs).q_logits, network(obs).q_logits)
    layer, inputs = NoisyLinear(4, 3, 0.5), torch.randn(6, 4)
    mean = torch.stack([layer(inputs) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, layer.eval()(inputs), rtol=0, atol=0.1)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="noisy must not be negative"):
        HeadsConfig(16, 8, False, False, -0.5, True)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    layer, inputs = SpectralConv2d(3, 6, 3, padding=1), torch.randn(2, 3, 8, 8)
    for _ in range(100):
        layer(inputs)
    largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
    want = torch.nn.functional.conv2d(inputs, layer.weight / largest, layer.bias, padding=1)
    torch.testing.assert_close(layer(inputs), want, rtol=1e-4, atol=1e-4)
    scaled = SpectralConv2d(3, 6, 3, padding=1)
    scaled.load_state_dict(layer.state_dict())
    with torch.no_grad():
        scaled.weight.mul_(1000)
    torch.testing.assert_close(scaled(inputs), want, rtol=1e-4, atol=1e-4)


def test_only_training_moves_the_power_iteration() -> None:
    torch.manual_seed(0)
    layer, inputs = SpectralConv2d(3, 6, 3, padding=1), torch.randn(2, 3, 8, 8)
    before = layer.left.clone()
    with torch.inference_mode():
        first = layer(inputs)
    with torch.no_grad():
        second = layer(inputs)
    assert torch.equal(layer.left, before)
    assert torch.equal(first, second)
    layer(inputs).sum().backward()
    assert not torch.equal(layer.left, before)
    assert layer.left.grad is None


def test_the_singular_value_is_as_exact_under_bfloat16() -> None:
    torch.manual_seed(0)
    layer, inputs = SpectralConv2d(3, 6, 3, padding=1), torch.randn(2, 3, 8, 8)
    layer(inputs)
    with torch.no_grad():
        norm = layer._norm(layer.weight.flatten(1))
    want = torch.nn.functional.conv2d(inputs, layer.weight / norm, layer.bias, padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = torch.nn.functional.conv2d(inputs, layer.weight / norm, layer.bias, padding=1)
        torch.testing.assert_close(layer(inputs), low, rtol=0, atol=0)
    torch.testing.assert_close(low.float(), want, rtol=0, atol=0.05)


def test_members_have_norms_of_their_own() -> None:
    norm, inputs = EnsembleNorm(3, 5), torch.randn(3, 4, 5)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    for member in range(3):
        weight, bias = norm.weight[member, 0], norm.bias[member, 0]
        want = torch.nn.functional.layer_norm(inputs[member], (5,), weight, bias)
        torch.testing.assert_close(norm(inputs)[member], want)


def test_the_gradient_goes_through_the_singular_value() -> None:
    """The output does not change with the weight's scale, so the gradient is orthogonal to the weight."""
    torch.manual_seed(0)
    layer, inputs = SpectralConv2d(3, 6, 3, padding=1), torch.randn(2, 3, 8, 8)
    for _ in range(100):
        layer(inputs)
    (layer(inputs) * torch.randn(2, 6, 8, 8)).sum().backward()
    assert abs((layer.weight.grad * layer.weight).sum().item()) < 1e-3 * layer.weight.grad.norm().item()


def test_a_pool_that_is_larger_than_its_image_is_refused() -> None:
    with pytest.raises(ValueError, match="pool_size must be between 1 and 11, as 11x11 come out of the stages"):
        Impala((4, 8, 8), 1, 1, 12, False, False, HEADS, spec=IMAGE, **RUNTIME)


ONE = {"outputs": Outputs(torch.zeros(7), 1, True)}
WHOLE = [
    (lambda: Nature(True, HEADS, spec=IMAGE, **ONE), IMAGE),
    (lambda: Impala((4, 8), 1, 1, None, True, False, HEADS, spec=IMAGE, **ONE), IMAGE),
    (lambda: Impala((4, 8), 1, 1, 6, False, True, HEADS, spec=IMAGE, **ONE), IMAGE),
    (lambda: MinAtar(16, True, HEADS, spec=SMALL, **ONE), SMALL),
    (lambda: MLP((12, 9), True, HEADS, spec=VECTOR, **ONE), VECTOR),
]


@pytest.mark.parametrize(("make", "spec"), WHOLE)
def test_networks_in_one_pass_are_these_networks(make, spec) -> None:
    torch.manual_seed(0)
    members, obs = [make() for _ in range(3)], observations(spec, 6)
    alone = [member(obs) for member in members]
    q = torch.cat([output.q_logits for output in alone])
    policy = torch.stack([output.policy_logits for output in alone]).mean(0)
    (q.square().sum() + policy.square().sum()).backward()
    gradients = [{name: p.grad for name, p in member.named_parameters()} for member in members]
    torch.manual_seed(0)
    together = Networks([make() for _ in range(3)])
    output = together(obs)
    assert output.q_logits.shape == (3, 6, 5, 7)
    torch.testing.assert_close(output.q_logits, q, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.policy_logits, policy, rtol=1e-4, atol=1e-5)
    (output.q_logits.square().sum() + output.policy_logits.square().sum()).backward()
    for name, parameter in together.member.named_parameters():
        if parameter.requires_grad:
            want = torch.stack([member[name] for member in gradients])
            torch.testing.assert_close(parameter.grad, want, rtol=1e-3, atol=1e-4)
        else:
            want = torch.stack([dict(member.named_parameters())[name] for member in members])
            torch.testing.assert_close(parameter, want)


def test_networks_are_copied_saved_and_drawn_apart() -> None:
    torch.manual_seed(0)
    noisy = HeadsConfig(16, 8, False, False, 0.5, True)
    networks = Networks([MLP((12,), False, noisy, spec=VECTOR, **ONE) for _ in range(3)])
    same = observations(VECTOR, 1).expand(2, 3)
    assert is_noisy(networks)
    other = copy.deepcopy(networks)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))  # three times the first
    drawn = other(same).q_logits
    assert torch.equal(drawn[:, 0], drawn[:, 1])  # rows share their noise
    assert not torch.allclose(drawn[0], drawn[1])  # members do not
    other.load_state_dict(networks.state_dict())
    networks.eval(), other.eval()
    torch.testing.assert_close(other(same).q_logits, networks(same).q_logits)
