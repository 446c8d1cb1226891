"""The optimizer takes torch.optim.AdamW's steps."""

import copy

import pytest
import torch
from torch import nn

from offpol.layers import channels_last
from offpol.optimizer import AdamW, OptimizerConfig


def small_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 5), nn.Linear(5, 2))
    network.register_parameter("unused_bias", nn.Parameter(torch.ones(3)))
    channels_last(network)
    return network


def loss_of(network: nn.Module, seed: int) -> torch.Tensor:
    obs = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return network(obs).square().sum()


def step(optimizer: AdamW, loss: torch.Tensor) -> torch.Tensor:
    optimizer.zero_grad()
    loss.backward()
    return optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_steps_are_those_of_torch_with_the_norm_clipped(weight_decay: float, max_norm: float) -> None:
    ours = small_network()
    theirs = copy.deepcopy(ours)
    optimizer = AdamW(ours.named_parameters(), OptimizerConfig(1e-2, 1e-5, weight_decay, max_norm))
    named = list(theirs.named_parameters())
    groups = [
        {"params": [p for name, p in named if (p.ndim < 2 or "bias" in name) == spared], "weight_decay": decay}
        for spared, decay in ((True, 0.0), (False, weight_decay))
    ]
    reference = torch.optim.AdamW(groups, lr=1e-2, eps=1e-5, fused=True)
    for seed in range(5):
        norm = step(optimizer, loss_of(ours, seed))
        reference.zero_grad()
        loss_of(theirs, seed).backward()
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), max_norm))
        reference.step()
        assert (norm > max_norm) == (max_norm < 1)
        for (name, got), want in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(got, want, msg=name)
            assert got.stride() == want.stride()


def test_weight_decay_spares_biases_norms_and_what_gets_no_gradient_stays() -> None:
    network = small_network()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = AdamW(network.named_parameters(), OptimizerConfig(1e-2, 1e-5, 0.5, 10.0))
    step(optimizer, 0.0 * loss_of(network, 0))
    for name, parameter in network.named_parameters():
        kept = 1.0 if "bias" in name or name.startswith("2.") else 1 - 1e-2 * 0.5
        torch.testing.assert_close(parameter.detach(), kept * before[name], msg=name)


def test_a_forgotten_parameter_starts_anew_and_the_state_goes_on() -> None:
    network = small_network()
    optimizer = AdamW(network.named_parameters(), OptimizerConfig(1e-2, 1e-5, 0.0, 10.0))
    step(optimizer, loss_of(network, 0))
    optimizer.forget(network[3].weight)
    again = small_network()
    again.load_state_dict(network.state_dict())
    loaded = AdamW(again.named_parameters(), OptimizerConfig(1e-2, 1e-5, 0.0, 10.0))
    loaded.load_state_dict(optimizer.state_dict())
    step(optimizer, loss_of(network, 1))
    step(loaded, loss_of(again, 1))
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    taken = {name: int(optimizer.steps[i]) for i, (name, _) in enumerate(network.named_parameters())}
    assert taken == {name: 1 if name == "3.weight" else 2 for name in taken}
