"""What every policy in conf/policy must hold, found by glob."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from policy_cases import random_inputs, twofold
from trace_cases import random_inputs as random_windows

from offpol.config import build, conf_dir
from offpol.types import Policy

FILES = sorted((conf_dir() / "policy").glob("*.yaml"))
every_policy = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def load(file: Path) -> Policy:
    return build(OmegaConf.load(file))


@every_policy
def test_probs_are_distributions(file: Path) -> None:
    policy = load(file)
    q, logits = 1e4 * torch.randn(2, 7, 5), 10 * torch.randn(2, 7, 5)
    pi = policy.probs(q, logits)
    assert pi.shape == (2, 7, 5)
    assert (pi >= 0).all()
    torch.testing.assert_close(pi.sum(-1), torch.ones(2, 7))
    assert isinstance(policy.double, bool)


@every_policy
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_losses_are_finite_for_any_advantage(file: Path, size: float) -> None:
    policy = load(file)
    one_hot = torch.nn.functional.one_hot(torch.arange(40) % 5, 5).float()
    inputs = replace(random_inputs(q_scale=size), pi=one_hot)
    for _ in range(3):
        loss, log = policy.loss(inputs, measure=True)
    assert loss.shape == (40,)
    assert loss.isfinite().all()
    assert all(x.ndim == 0 and x.isfinite() and not x.requires_grad for x in log.values())
    if loss.requires_grad:
        (grad,) = torch.autograd.grad(loss.sum(), inputs.logits)
        assert grad.isfinite().all()


@every_policy
def test_a_row_does_not_depend_on_how_many_there_are(file: Path) -> None:
    """Losses are per row: their mean has the same gradient for a batch and for the batch twice."""
    inputs = random_inputs()
    loss, _ = load(file).loss(inputs)
    doubled, _ = load(file).loss(twofold(inputs))
    torch.testing.assert_close(doubled, torch.cat([loss, loss]).detach())


@every_policy
def test_invalid_rows_do_not_move_the_state(file: Path) -> None:
    states = []
    for noise in (0.0, 100.0):
        policy, inputs = load(file), random_inputs()
        q_values = inputs.q_values + noise * (inputs.share == 0).float().unsqueeze(-1) * torch.randn(40, 5)
        policy.loss(replace(inputs, q_values=q_values))
        states.append(policy.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@every_policy
def test_state_goes_on_exactly(file: Path) -> None:
    first, second = load(file), load(file)
    for seed in range(3):
        first.loss(random_inputs(seed=seed))
    second.load_state_dict(first.state_dict())
    got, want = (policy.loss(random_inputs(seed=9), measure=True) for policy in (second, first))
    assert torch.equal(got[0], want[0])
    assert all(torch.equal(got[1][name], want[1][name]) for name in want[1])


@every_policy
def test_regularising_keeps_shapes_and_inputs(file: Path) -> None:
    inputs = random_windows(0)
    before = {name: tensor.clone() for name, tensor in vars(inputs).items()}
    got = load(file).regularise(inputs)
    for name, tensor in before.items():
        assert torch.equal(getattr(inputs, name), tensor)
        assert getattr(got, name).shape == tensor.shape


@every_policy
def test_finite_where_the_behavior_hardly_ever_acts_so(file: Path) -> None:
    inputs = random_inputs()
    loss, _ = load(file).loss(replace(inputs, log_mu=torch.full_like(inputs.log_mu, 1e-6).log()))
    assert loss.isfinite().all()
    if loss.requires_grad:
        assert torch.autograd.grad(loss.sum(), inputs.logits)[0].isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@every_policy
def test_compiled_equals_eager(file: Path) -> None:
    torch.compiler.reset()
    eager, compiled = load(file), load(file)
    loss = torch.compile(lambda inputs: compiled.loss(inputs)[0])
    for seed in range(3):
        inputs = random_inputs(seed=seed)
        torch.testing.assert_close(loss(inputs), eager.loss(inputs)[0], rtol=1e-4, atol=1e-4)
