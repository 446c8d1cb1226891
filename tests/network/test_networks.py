"""Networks answer the right shapes, scale bytes exactly, and refuse what they cannot see."""

import pytest
import torch

from offpol.critic.hl_gauss import HLGauss
from offpol.layers import ByteConv2d, EnsembleLinear, Heads, HeadsConfig
from offpol.network.data_efficient import DataEfficient
from offpol.network.impala import Impala
from offpol.network.minatar import MinAtar
from offpol.network.mlp import MLP
from offpol.network.nature import Nature
from offpol.types import EnvSpec

HEADS = HeadsConfig(16, 8, dueling=False, layer_norm=False, policy_gradient_to_torso=True)
IMAGE = EnvSpec("image", 2, 5, (84, 84), torch.uint8, stack=4)
SMALL = EnvSpec("small", 2, 5, (4, 10, 10), torch.uint8)
VECTOR = EnvSpec("vector", 2, 5, (3,), torch.float32)
RUNTIME = {"initial_logits": torch.zeros(7), "num_critics": 3}
CASES = [
    (lambda heads: Nature(heads, spec=IMAGE, **RUNTIME), IMAGE),
    (lambda heads: DataEfficient(heads, spec=IMAGE, **RUNTIME), IMAGE),
    (lambda heads: Impala((4, 8, 8), 2, 1, True, heads, spec=IMAGE, **RUNTIME), IMAGE),
    (lambda heads: MinAtar(16, heads, spec=SMALL, **RUNTIME), SMALL),
    (lambda heads: MLP((12, 9), True, heads, spec=VECTOR, **RUNTIME), VECTOR),
]


def observations(spec: EnvSpec, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if spec.dtype == torch.uint8:
        return torch.randint(0, 256, (count, *spec.obs_shape), dtype=torch.uint8, generator=generator)
    return torch.randn(count, *spec.obs_shape, generator=generator)


@pytest.mark.parametrize(("make", "spec"), CASES)
@pytest.mark.parametrize("dueling", [False, True])
def test_output_shapes_and_every_parameter_learns(make, spec, dueling) -> None:
    heads = HeadsConfig(16, 8, dueling, layer_norm=True, policy_gradient_to_torso=True)
    network = make(heads)
    output = network(observations(spec, 6))
    assert output.q_logits.shape == (3, 6, 5, 7)
    assert output.policy_logits.shape == (6, 5)
    (output.q_logits.square().sum() + output.policy_logits.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_bytes_are_scaled_to_one_and_gradients_agree() -> None:
    torch.manual_seed(0)
    layer = ByteConv2d(4, 3, 5, stride=5)
    plain = torch.nn.Conv2d(4, 3, 5, stride=5)
    plain.load_state_dict(layer.state_dict())
    obs = observations(IMAGE, 2)
    ours, theirs = layer(obs), plain(obs.float() / 255)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


def test_policy_gradient_can_be_kept_from_the_torso() -> None:
    for reaches in (True, False):
        network = MLP((12,), False, HeadsConfig(16, 8, False, False, reaches), spec=VECTOR, **RUNTIME)
        network(observations(VECTOR, 4)).policy_logits.sum().backward()
        assert (network.torso[0].weight.grad is not None) == reaches


def test_initial_policy_is_nearly_uniform() -> None:
    for make, spec in CASES:
        pi = make(HEADS)(observations(spec, 8)).policy_logits.softmax(-1)
        assert (pi - 0.2).abs().max() < 0.02


def test_dueling_matches_its_formula() -> None:
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(16, 8, True, False, True), 6, 5, torch.zeros(7), 1)
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
    lambda: Nature(HEADS, spec=VECTOR, **RUNTIME),
    lambda: DataEfficient(HEADS, spec=SMALL, **RUNTIME),
    lambda: Impala((4,), 1, 1, False, HEADS, spec=VECTOR, **RUNTIME),
    lambda: MinAtar(16, HEADS, spec=VECTOR, **RUNTIME),
])  # fmt: skip
def test_wrong_observations_are_refused_in_one_sentence(make) -> None:
    with pytest.raises(ValueError, match=r"needs images of at least .* choose network="):
        make()


@pytest.mark.parametrize("dueling", [False, True])
def test_values_start_where_the_critic_wants_them(dueling) -> None:
    """A support of [-2, 20] would start at 9 otherwise."""
    torch.manual_seed(0)
    critic = HLGauss(-2.0, 20.0, 51, 0.75, "none", 2, 0)
    heads = Heads(HeadsConfig(64, 8, dueling, False, True), 32, 5, critic.initial_logits, 2)
    values = critic.value(heads(torch.randn(50, 32)).q_logits)
    assert values.shape == (2, 50, 5)
    assert values.abs().mean() < 0.3
