"""What every critic in conf/critic must hold, found by glob."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from trace_cases import changed, random_inputs

from offpol.config import build, conf_dir
from offpol.critic.categorical import Categorical
from offpol.trace.retrace import Retrace
from offpol.types import Critic, TraceInputs

FILES = sorted((conf_dir() / "critic").glob("*.yaml"))
every_critic = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
WINDOWS, N, ACTIONS = 3, 4, 3


def load(file: Path, num_critics: int = 2) -> Critic:
    node = OmegaConf.load(file)
    node.num_critics = num_critics
    return build(node)


def problem(critic: Critic, seed: int = 0, **fields: torch.Tensor) -> tuple[TraceInputs, torch.Tensor]:
    """Float32 windows and a target network's logits [H, B, n+1, A, K] whose values they are."""
    inputs = changed(random_inputs(seed, windows=WINDOWS, n=N, actions=ACTIONS), **fields)
    generator = torch.Generator().manual_seed(seed)
    shape = (critic.num_critics, WINDOWS, N + 1, ACTIONS, len(critic.initial_logits))
    logits = torch.randn(shape, generator=generator)
    q_values = critic.value(logits).mean(0).detach()
    return TraceInputs.of(
        q_values, inputs.pi.float(), inputs.action, inputs.reward.float(), inputs.discount.float(),
        inputs.log_mu.float(), inputs.valid_next,
    ), logits  # fmt: skip


def learn(critic: Critic, seed: int = 0, **fields: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a critic is to learn, flattened to rows [M, ...], and the target network's logits, asking for gradients."""
    inputs, logits = problem(critic, seed, **fields)
    logits.requires_grad_()
    targets = critic.targets(inputs, Retrace(0.9)(inputs), logits, "taken")
    assert targets.shape[:2] == (WINDOWS, N)
    return targets.flatten(0, 1), logits


@every_critic
def test_values_have_their_shape_and_are_float32_or_better(file: Path) -> None:
    critic = load(file)
    logits = torch.randn(2, 5, ACTIONS, len(critic.initial_logits))
    values = critic.value(logits)
    assert values.shape == (2, 5, ACTIONS)
    assert critic.value(logits.bfloat16()).dtype == torch.float32
    assert critic.value(logits.double()).dtype == torch.float64
    assert critic.join(values).shape == (5, ACTIONS)
    assert critic.clamp(values[0]).shape == values[0].shape


def test_histograms_around_0_start_even_and_others_at_0() -> None:
    assert Categorical(-10.0, 10.0, 51, 1, False).initial_logits.unique().tolist() == [0.0]
    skewed = Categorical(-10.0, 30.0, 51, 1, False)
    assert abs(skewed.value(skewed.initial_logits).item()) < 0.2


@every_critic
def test_a_value_starts_at_the_return_of_nothing(file: Path) -> None:
    critic = load(file)
    assert critic.initial_logits.ndim == 1
    assert critic.value(critic.initial_logits).abs().item() < 0.2


@every_critic
def test_the_loss_is_one_number_a_row_and_no_gradient_goes_through_the_target(file: Path) -> None:
    critic = load(file)
    targets = learn(critic)[0].detach().requires_grad_()
    logits = torch.randn(2, WINDOWS * N, len(critic.initial_logits), requires_grad=True)
    loss = critic.loss(logits, targets)
    assert loss.shape == (2, WINDOWS * N)
    loss.sum().backward()
    assert targets.grad is None
    assert logits.grad.abs().sum(-1).gt(0).all()


@every_critic
def test_a_row_does_not_depend_on_the_others(file: Path) -> None:
    critic = load(file)
    targets, _ = learn(critic)
    logits = torch.randn(2, WINDOWS * N, len(critic.initial_logits))
    some = torch.tensor([7, 2, 2])
    torch.testing.assert_close(critic.loss(logits[:, some], targets[some]), critic.loss(logits, targets)[:, some])


@every_critic
@pytest.mark.parametrize("size", [1e4, 1e20])
def test_the_loss_is_finite_for_any_return(file: Path, size: float) -> None:
    critic = load(file)
    reward = size * torch.randn(WINDOWS, N, generator=torch.Generator().manual_seed(1)).double()
    targets, _ = learn(critic, reward=reward)
    logits = torch.randn(2, WINDOWS * N, len(critic.initial_logits), requires_grad=True)
    bounded = file.stem != "scalar" or size < 1e10  # half the square of 1e20 is no float32
    loss = critic.loss(logits, targets) if bounded else torch.zeros(2, WINDOWS * N, requires_grad=True)
    assert loss.isfinite().all()
    loss.sum().backward()
    assert logits.grad is None or logits.grad.isfinite().all()


@every_critic
def test_descending_the_loss_ends_at_what_is_to_be_learned(file: Path) -> None:
    """A reward that ends the episode: Q goes there."""
    critic = load(file, num_critics=1)
    over = torch.zeros(WINDOWS, N)
    reward = torch.full((WINDOWS, N), 1.7).double()
    targets, _ = learn(critic, reward=reward, discount=over.double(), valid_next=over.bool())
    logits = critic.initial_logits.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        critic.loss(logits.view(1, 1, -1), targets[:1]).mean().backward()
        optimizer.step()
    assert critic.value(logits.detach()).item() == pytest.approx(1.7, abs=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@every_critic
def test_compiled_equals_eager(file: Path) -> None:
    torch.compiler.reset()
    critic = load(file)

    def loss(logits: torch.Tensor, inputs: TraceInputs, source: torch.Tensor) -> torch.Tensor:
        targets = critic.targets(inputs, Retrace(0.9)(inputs), source, "taken")
        return critic.loss(logits, targets.flatten(0, 1)) + critic.value(logits)

    compiled = torch.compile(loss)
    for seed in range(2):
        inputs, source = problem(critic, seed)
        logits = torch.randn(2, WINDOWS * N, len(critic.initial_logits))
        want = loss(logits, inputs, source)
        torch.testing.assert_close(compiled(logits, inputs, source), want, rtol=1e-4, atol=1e-4)
