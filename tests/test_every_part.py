"""Every trace, critic and policy in conf/ trains an agent; combinations that mean nothing are refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from test_agent import CONSTANT, HEADS, SPEC, make_batch
from test_agent import make_agent as plain_agent
from test_conf import composed
from torch import nn

from offpol.acting import Autocast
from offpol.agent import Agent, TargetConfig
from offpol.assembly import build_parts
from offpol.config import build, conf_dir
from offpol.health import health
from offpol.layers import HeadsConfig
from offpol.network.mlp import MLP
from offpol.optimizer import OptimizerConfig
from offpol.policy.cmpo import CMPO
from offpol.policy.policy_gradient import PolicyGradient
from offpol.trace.puffer import Puffer
from offpol.types import Outputs

PARTS = [file for seam in ("trace", "critic", "policy") for file in sorted((conf_dir() / seam).glob("*.yaml"))]


def make_agent(
    heads: HeadsConfig = HEADS, autocast: Autocast = "none", kind: type[Agent] = Agent, device: str = "cpu",
    **changes: str,
) -> Agent:  # fmt: skip
    """An agent with the default parts, but for those named by seam."""
    torch.manual_seed(0)
    names = {"trace": "retrace", "critic": "hl_gauss", "policy": "advantage_weighted"} | changes
    nodes = {seam: OmegaConf.load(conf_dir() / seam / f"{name}.yaml") for seam, name in names.items()}
    if "off_policy" in nodes["trace"]:
        nodes["trace"].off_policy = True
    parts = {seam: build(node) for seam, node in nodes.items()}
    critic = parts["critic"]
    outputs = Outputs(critic.initial_logits, critic.num_critics, parts["policy"].learned)
    build_network = partial(MLP, (16,), False, heads, spec=SPEC, outputs=outputs)
    return kind(
        build_network, critic, parts["policy"], parts["trace"], gamma=0.9, window=3, train_positions=2, batch_size=5,
        policy_coefficient=1.0, priority_max_share=0.9, target=TargetConfig(0.5, 1, False),
        optimizer=OptimizerConfig(1e-3, 1e-5, 0.0, 10.0), **CONSTANT, autocast=autocast,
        device=device,
    )  # fmt: skip


@pytest.mark.parametrize(
    "file", [file for file in PARTS if file.parent.name in ("policy", "critic")], ids=lambda file: file.stem
)
def test_what_is_measured_is_of_the_target_network(file: Path) -> None:
    """Also of the row that returns start from, of which learning itself may read the online network."""
    agent, batch = make_agent(**{file.parent.name: file.stem}), make_batch()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random))
    inputs = agent.trace_inputs(batch)
    expected = health(batch, inputs, agent.trace(inputs), 1)
    measured = agent.update(batch, measure=True).metrics
    for name, number in expected.items():
        torch.testing.assert_close(
            measured[name], number, msg=lambda text, name=name: f"{name}: {text}", equal_nan=True
        )


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_every_part_trains_an_agent(file: Path) -> None:
    agent = make_agent(**{file.parent.name: file.stem})
    before = nn.utils.parameters_to_vector(agent.parameters).detach().clone()
    for seed in range(2):
        update = agent.update(make_batch(seed=seed), measure=True)
    after = nn.utils.parameters_to_vector(agent.parameters)
    assert after.isfinite().all()
    assert (after != before).any()
    assert update.priority.isfinite().all()
    assert all(number.isfinite() for number in update.metrics.values())


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_nothing_that_is_learned_towards_asks_for_a_gradient(file: Path) -> None:
    agent, batch = make_agent(**{file.parent.name: file.stem}), make_batch()
    obs = batch.obs.transpose(0, 1).flatten(0, 1)
    trained = agent.network(obs[: 2 * len(batch)])
    assert trained.q_logits.requires_grad
    inputs, traced, learned = agent._targets(batch, obs, trained, 0.9 * ~batch.terminated)
    assert not any(tensor.requires_grad for tensor in (*vars(inputs).values(), *traced, learned))


@pytest.mark.parametrize("critic", ["categorical", "quantile"])
@pytest.mark.parametrize("trace", ["vtrace", "rbis", "c_trace", "gae", "puffer", "watkins"])
def test_a_distributional_critic_refuses_a_trace_that_is_no_mixture(critic: str, trace: str) -> None:
    with pytest.raises(ValueError, match="is no mixture of bootstraps"):
        make_agent(critic=critic, trace=trace)


@pytest.mark.parametrize("trace", ["one_step", "n_step", "peng", "retrace", "tree_backup", "q_lambda"])
def test_distributions_go_through_the_other_traces(trace: str) -> None:
    agent = make_agent(critic="categorical", trace=trace)
    batch = make_batch()
    obs = batch.obs.transpose(0, 1).flatten(0, 1)
    _, traced, learned = agent._targets(batch, obs, agent.network(obs[: len(batch)]), 0.9 * ~batch.terminated)
    mean = (learned * agent.critic.atoms).sum(-1)
    torch.testing.assert_close(mean, traced.returns, rtol=0, atol=0.1)  # mass beyond the ends is put on them


NOISY = replace(HEADS, noisy=0.5)
NEEDS_MU = {
    "trace": {"retrace", "vtrace", "puffer", "importance_sampling", "rbis", "c_trace"}, "policy": {"policy_gradient"},
}  # fmt: skip
ALONE = {"trace": "one_step", "policy": "softmax_q"}  # what else the agent has, so that only one part may need mu


def needs_mu(file: Path) -> bool:
    """Tell what a part says of itself."""
    node = OmegaConf.load(file)
    if "off_policy" in node:
        node.off_policy = True
    return getattr(build(node), "needs_mu", False)


@pytest.mark.parametrize("file", [file for file in PARTS if file.parent.name != "critic"], ids=lambda file: file.stem)
def test_noisy_layers_refuse_what_needs_the_logged_probability(file: Path) -> None:
    parts = ALONE | {file.parent.name: file.stem}
    if needs_mu(file):
        with pytest.raises(ValueError, match="compares pi with the logged probability, which noisy layers do not have"):
            make_agent(NOISY, **parts)
    else:
        make_agent(NOISY, **parts)


@pytest.mark.parametrize("file", [file for file in PARTS if file.parent.name != "critic"], ids=lambda file: file.stem)
def test_what_does_not_say_that_it_needs_the_logged_probability_never_looks_at_it(file: Path) -> None:
    """Two agents that differ in log_mu alone learn the same, unless the part says so."""
    learned = []
    for shift in (0.0, 0.5):
        agent, batch = make_agent(**(ALONE | {file.parent.name: file.stem})), make_batch()
        batch.behavior_log_prob += shift
        agent.update(batch)
        learned.append(nn.utils.parameters_to_vector(agent.parameters))
    assert torch.equal(*learned) == (not needs_mu(file))


def test_the_parts_that_need_the_logged_probability_say_so() -> None:
    for seam, names in NEEDS_MU.items():
        assert all(needs_mu(conf_dir() / seam / f"{name}.yaml") for name in names)


@pytest.mark.parametrize("critic", ["hl_gauss", "categorical"])
def test_an_ensemble_of_networks_learns_each_its_own(critic: str, tmp_path: Path) -> None:
    size = ("critic.num_critics=3", "critic.separate_networks=true", "network.channels=2", "run.num_envs=2")
    cfg = composed("task=minatar", f"critic={critic}", *size, "agent.resets.every_updates=2", "agent.batch_size=4")
    parts = build_parts(cfg, tmp_path)
    actor = parts.actors.build(parts.agent.values)
    for _ in range(10):
        parts.replay.add(actor.step(actor.act(0, 0))[0])
    weights = [p.detach().clone() for p in parts.agent.parameters]
    for _ in range(3):
        assert parts.agent.update(parts.replay.sample(4)).finite
    for before, after in zip(weights, parts.agent.parameters, strict=True):
        assert all((before[member] != after[member]).any() for member in range(3))
    actor.env.close()


def test_puffer_goes_with_a_policy_that_leaves_its_advantage_alone() -> None:
    plain_agent(Puffer(0.9, 1.0, 1.0), PolicyGradient("none", 1.0, 0.0, False))
    plain_agent(Puffer(0.9, 1.0, 1.0), CMPO(1.0, 0.0, 1.0, 0.9))
