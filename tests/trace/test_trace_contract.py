"""What every operator in conf/trace must hold, found by glob."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from trace_cases import GAMMA, changed, random_inputs

from offpol.config import build, conf_dir
from offpol.types import Trace, TraceInputs

FILES = sorted((conf_dir() / "trace").glob("*.yaml"))
every_operator = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def load(file: Path) -> Trace:
    return build(OmegaConf.load(file))


def as_dtype(inputs: TraceInputs, dtype: torch.dtype) -> TraceInputs:
    return TraceInputs(**{k: v.to(dtype) if v.is_floating_point() else v for k, v in vars(inputs).items()})


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_shape_dtype_and_purity(file: Path, dtype: torch.dtype, n: int) -> None:
    inputs = as_dtype(random_inputs(0, n=n), dtype)
    before = {name: tensor.clone() for name, tensor in vars(inputs).items()}
    first, second = load(file)(inputs), load(file)(inputs)
    for tensor, again in zip(first, second, strict=True):
        assert tensor.shape == (6, n)
        assert tensor.dtype == dtype
        assert torch.equal(tensor, again)
    assert all(torch.equal(tensor, getattr(inputs, name)) for name, tensor in before.items())


@every_operator
def test_finite_where_the_behavior_hardly_ever_acts_so(file: Path) -> None:
    inputs = as_dtype(random_inputs(1, n=5), torch.float32)
    rare = changed(inputs, log_mu=torch.full_like(inputs.log_mu, 1e-6).log(), log_pi=torch.zeros_like(inputs.log_pi))
    never = changed(inputs, log_mu=rare.log_mu, log_pi=torch.full_like(inputs.log_pi, -torch.inf))
    for case in (rare, never):
        assert all(tensor.isfinite().all() for tensor in load(file)(case))


@every_operator
@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("end", range(5))
def test_an_episodes_end_cuts(file: Path, end: int, terminated: bool) -> None:
    """Values and rewards after step `end` do not reach returns before it; truncation keeps one bootstrap."""
    inputs = random_inputs(2, n=6, ends=0.0)
    inputs.valid_next[:, end] = False
    if terminated:
        inputs.discount[:, end] = 0.0
    right = load(file)(inputs)
    later = random_inputs(3, n=6)
    after = end + 1 if terminated else end + 2  # from where q_values may be anything
    moved = {name: getattr(inputs, name).clone() for name in ("q_values", "q", "v", "reward")}
    for name in ("q_values", "v"):
        moved[name][:, after:] = getattr(later, name)[:, after:]
    for name in ("q", "reward"):
        moved[name][:, end + 1 :] = getattr(later, name)[:, end + 1 :]
    got = load(file)(changed(inputs, **moved))
    torch.testing.assert_close(got.returns[:, : end + 1], right.returns[:, : end + 1], rtol=0, atol=1e-12)
    torch.testing.assert_close(got.advantage[:, : end + 1], right.advantage[:, : end + 1], rtol=0, atol=1e-12)
    if not terminated:  # the bootstrap that truncation keeps does count, with discount gamma
        moved["q_values"][:, end + 1] += 1.0
        moved["v"][:, end + 1] += 1.0
        shift = (load(file)(changed(inputs, **moved)).returns - right.returns)[:, end]
        assert (shift > 0).all()
        assert (shift <= GAMMA + 1e-9).all()


@every_operator
def test_the_last_step_is_one_step(file: Path) -> None:
    """At the window's end every operator on action values bootstraps with r + d v, whatever its coefficient."""
    inputs = random_inputs(4)
    best = changed(inputs, v=inputs.q_values.amax(-1))
    got = load(file)(best).returns[:, -1]
    want = (inputs.reward + inputs.discount * best.v[:, 1:])[:, -1]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@every_operator
def test_no_return_depends_on_the_values_of_the_row_it_starts_from(file: Path) -> None:
    """What `Policy.reads_rows` relies on: another Q(s_0, .) and pi(.|s_0) leave the first row's return as it is."""
    inputs, other = random_inputs(5), random_inputs(6)
    q_values, pi = inputs.q_values.clone(), inputs.pi.clone()
    q_values[:, 0], pi[:, 0] = other.q_values[:, 0], other.pi[:, 0]
    moved = TraceInputs.of(
        q_values, pi, inputs.action, inputs.reward, inputs.discount, inputs.log_mu, inputs.valid_next
    )
    operator = load(file)
    torch.testing.assert_close(operator(moved).returns, operator(inputs).returns, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@every_operator
def test_compiled_equals_eager(file: Path) -> None:
    torch.compiler.reset()
    operator = load(file)
    compiled = torch.compile(lambda *tensors: operator(TraceInputs(*tensors)), fullgraph=True)
    for seed in range(3):
        inputs = as_dtype(random_inputs(seed), torch.float32)
        for got, want in zip(compiled(*vars(inputs).values()), operator(inputs), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
