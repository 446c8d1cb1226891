"""Every network in conf/, found by globbing: right shapes, every parameter learns, rows do not see each other."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from offpol.config import build, conf_dir
from offpol.types import EnvSpec, Outputs

FILES = sorted((conf_dir() / "network").glob("*.yaml"))
SPECS = (
    EnvSpec("frames", 2, 5, (84, 84), torch.uint8, stack=4), EnvSpec("grid", 2, 5, (4, 10, 10), torch.uint8),
    EnvSpec("vector", 2, 5, (3,), torch.float32),
)  # fmt: skip
CASES = [pytest.param(file, spec, id=f"{file.stem}-{spec.name}") for file in FILES for spec in SPECS]


def built(file: Path, spec: EnvSpec, policy: bool = True) -> torch.nn.Module:
    """Build a network, small where it has heads; skip what says in a sentence that it cannot see this."""
    torch.manual_seed(0)
    node = OmegaConf.merge({"heads": {"hidden": 16, "policy_hidden": 8}}, OmegaConf.load(file))
    try:
        return build(node, "network", spec=spec, outputs=Outputs(torch.zeros(7), 3, policy))
    except ValueError as error:
        if not str(error).startswith("network"):
            raise
        pytest.skip(str(error))


def observations(spec: EnvSpec, count: int) -> torch.Tensor:
    shape = (count, *spec.obs_shape)
    return torch.randint(0, 256, shape).float() if spec.dtype == torch.uint8 else torch.randn(shape)


@pytest.mark.parametrize(("file", "spec"), CASES)
def test_shapes_are_right_and_every_parameter_learns(file: Path, spec: EnvSpec) -> None:
    network = built(file, spec)
    output = network(observations(spec, 6))
    assert output.q_logits.shape == (3, 6, 5, 7)
    assert output.policy_logits.shape == (6, 5)
    (output.q_logits.square().sum() + output.policy_logits.square().sum()).backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("file", "spec"), CASES)
def test_an_answer_does_not_depend_on_the_rows_beside_it(file: Path, spec: EnvSpec) -> None:
    network, obs = built(file, spec).eval(), observations(spec, 6)
    with torch.no_grad():
        whole, alone = network(obs), network(obs[2:4])
    torch.testing.assert_close(whole.q_logits[:, 2:4], alone.q_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole.policy_logits[2:4], alone.policy_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_there_is_something_that_it_sees(file: Path) -> None:
    seen = []
    for spec in SPECS:
        try:
            seen.append(built(file, spec, policy=False))
        except pytest.skip.Exception:
            continue
    assert seen
