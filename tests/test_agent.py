"""One update, checked by hand: what is the target, who gets gradient, how targets follow."""

import copy
import math
from functools import partial

import pytest
import torch
from cpu_graphs import DEVICES
from torch import nn

from offpol.agent import Agent, TargetConfig, discounts
from offpol.contracts.networks import check_buffers
from offpol.critic.categorical import Categorical
from offpol.critic.scalar import Scalar
from offpol.layers import HeadsConfig
from offpol.network.mlp import MLP
from offpol.optimizer import OptimizerConfig
from offpol.policy.greedy import Greedy
from offpol.resets import AnnealingConfig, ResetConfig
from offpol.trace.one_step import OneStep
from offpol.trace.retrace import Retrace
from offpol.types import Batch, EnvSpec, Outputs

SPEC = EnvSpec("vector", 2, 3, (4,), torch.float32)
HEADS = HeadsConfig(16, 8, False, False, 0.0, True)
CONSTANT = {"resets": ResetConfig(0, None, 0.5), "annealing": AnnealingConfig(0, 0.97, 1)}


def make_agent(
    trace=None, policy=None, *, window=3, train_positions=3, rate=1.0, period=1, critics=1, heads=HEADS,
    **changes,
) -> Agent:  # fmt: skip
    torch.manual_seed(0)
    build_network = partial(MLP, (16,), False, heads, spec=SPEC, outputs=Outputs(torch.zeros(1), critics, True))
    settings = {
        "gamma": 0.9, "window": window, "train_positions": train_positions, "batch_size": 5,
        "policy_coefficient": 1.0, "priority_max_share": 0.9, "target": TargetConfig(rate, period, False),
        "optimizer": OptimizerConfig(1e-3, 1e-5, 0.0, 10.0), **CONSTANT, **changes,
    }  # fmt: skip
    critic = settings.pop("critic", None) or Scalar("mse", 1.0, "none", critics, 0, False)
    build_network = settings.pop("build_network", build_network)
    return Agent(build_network, critic, policy or Greedy(False), trace or Retrace(0.9), **settings)


def make_batch(window=3, size=5, seed=1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = (size, window)
    valid = torch.ones(shape, dtype=torch.bool)
    valid[0, 1:] = torch.tensor([False, True][: window - 1])
    valid_next = torch.ones(shape, dtype=torch.bool)
    valid_next[:, :-1] = valid[:, 1:]
    terminated = torch.zeros(shape, dtype=torch.bool)
    terminated[0, 0] = True
    return Batch(
        obs=torch.randn(size, window + 1, 4, generator=generator),
        action=torch.randint(0, 3, shape, generator=generator),
        reward=torch.randn(shape, generator=generator), terminated=terminated,
        truncated=torch.zeros(shape, dtype=torch.bool), valid=valid, valid_next=valid_next,
        behavior_log_prob=torch.full(shape, 1 / 3).log(), policy_version=torch.zeros(shape, dtype=torch.int64),
        index=torch.arange(size), generation=torch.ones(size, dtype=torch.int64), probability=torch.full((size,), 0.1),
        replay_weight=torch.linspace(0.2, 1, size), batch_size=[size],
    )  # fmt: skip


def test_one_step_loss_is_the_textbook_q_learning_loss() -> None:
    agent, batch = make_agent(OneStep()), make_batch()
    q = agent.target_network(batch.obs.flatten(0, 1)).q_logits[0, :, :, 0].view(5, 4, 3)
    returns = batch.reward + 0.9 * ~batch.terminated * q[:, 1:].amax(-1)
    error = q[:, :-1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1) - returns
    per_row = agent.critic.loss((error + returns).unsqueeze(-1), returns)
    expected = (per_row * batch.valid * batch.replay_weight.unsqueeze(1)).sum() / batch.valid.sum()
    update = agent.update(batch, measure=True)
    torch.testing.assert_close(update.metrics["loss"], expected.detach())
    absolute = error.detach().abs() * batch.valid
    priority = 0.9 * absolute.amax(1) + 0.1 * absolute.sum(1) / batch.valid.sum(1)
    torch.testing.assert_close(update.priority, priority)


def test_what_a_critic_cannot_represent_keeps_no_priority() -> None:
    """Its loss ends at the edge of the support: an error beyond would be drawn for ever and never fall."""
    critic = Categorical(-1.0, 1.0, 21, 1, False)
    network = partial(MLP, (16,), False, HEADS, spec=SPEC, outputs=Outputs(critic.initial_logits, 1, True))
    agent = make_agent(OneStep(), build_network=network, critic=critic, gamma=0.0)
    with torch.no_grad():
        for parameter in agent.network.heads.q_out.parameters():
            parameter.zero_()
        agent.network.heads.q_out.bias.view(-1, 21)[:, -1] = 100.0  # Q is 1 everywhere
    batch = make_batch().replace(reward=torch.full((5, 3), 7.0))
    update = agent.update(batch, measure=True)
    assert update.metrics["outside_support_share"] == 1
    assert update.metrics["critic_loss"] < 1e-6
    assert update.priority.max() < 1e-6


def test_the_loss_of_an_ensemble_is_the_sum_of_its_members_losses() -> None:
    """So that each of them learns as one alone does (RLPD, Ball et al. 2023, algorithm 1)."""
    agent, batch = make_agent(OneStep(), window=1, train_positions=1, critics=3), make_batch(window=1)
    values = agent.target_network(batch.obs[:, 1]).q_logits[..., 0].mean(0)  # [B, A], of all members
    returns = batch.reward[:, 0] + 0.9 * ~batch.terminated[:, 0] * values.amax(-1)
    taken = agent.network(batch.obs[:, 0]).q_logits[:, torch.arange(5), batch.action[:, 0]]  # [H, B, 1]
    by_member = agent.critic.loss(taken, returns).detach()
    assert by_member.shape == (3, 5)
    update = agent.update(batch, measure=True)
    torch.testing.assert_close(update.metrics["critic_loss"], (by_member.sum(0) * batch.replay_weight).sum() / 5)


def test_truncation_bootstraps_where_termination_does_not() -> None:
    agent, batch = make_agent(Retrace(0.9)), make_batch()
    for window, flags in ((1, batch.truncated), (2, batch.terminated)):
        flags[window, 1] = True
        batch.valid_next[window, 1] = batch.valid[window, 2] = False
    obs = batch.obs.transpose(0, 1).flatten(0, 1)
    _, targets, _ = agent._targets(batch, obs, agent.network(obs), discounts(batch, 0.9))
    ahead = agent.target_network(batch.obs[1:3, 2]).q_logits[0, :, :, 0].amax(-1)
    want = batch.reward[1:3, 1] + torch.tensor([0.9, 0.0]) * ahead
    torch.testing.assert_close(targets.returns[1:3, 1], want)


def test_invalid_rows_and_lengths_beyond_train_positions_do_not_train() -> None:
    def updated(batch: Batch, positions: int) -> torch.Tensor:
        agent = make_agent(OneStep(), train_positions=positions)
        agent.update(batch)
        return nn.utils.parameters_to_vector(agent.parameters)

    other_invalid = make_batch()
    other_invalid.reward[0, 1] = 100.0
    torch.testing.assert_close(updated(make_batch(), 3), updated(other_invalid, 3), rtol=0, atol=0)
    other_tail = make_batch()
    other_tail.reward[:, 1:] += 7
    torch.testing.assert_close(updated(make_batch(), 1), updated(other_tail, 1), rtol=0, atol=0)
    assert not torch.equal(updated(make_batch(), 3), updated(other_tail, 3))


def test_the_target_network_gets_no_gradient_and_follows_by_rate_and_period() -> None:
    agent = make_agent(rate=0.25, period=2)
    before = nn.utils.parameters_to_vector(agent.target_network.parameters()).clone()
    agent.update(make_batch())
    after_one = nn.utils.parameters_to_vector(agent.target_network.parameters())
    torch.testing.assert_close(after_one, before, rtol=0, atol=0)
    agent.update(make_batch())
    online = nn.utils.parameters_to_vector(agent.network.parameters())
    after_two = nn.utils.parameters_to_vector(agent.target_network.parameters())
    torch.testing.assert_close(after_two, before + 0.25 * (online - before))
    assert all(parameter.grad is None for parameter in agent.target_network.parameters())


def test_double_q_selects_by_the_online_network() -> None:
    agent = make_agent(OneStep(), Greedy(True), window=1, train_positions=1)
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    batch = make_batch(window=1)
    obs = batch.obs.transpose(0, 1).flatten(0, 1)
    _, targets, _ = agent._targets(batch, obs, agent.network(obs[: len(batch)]), 0.9 * ~batch.terminated)
    online = agent.network(batch.obs[:, 1]).q_logits[0, :, :, 0]
    target = agent.target_network(batch.obs[:, 1]).q_logits[0, :, :, 0]
    chosen = target.gather(-1, online.argmax(-1, keepdim=True)).squeeze(-1)
    expected = batch.reward[:, 0] + 0.9 * ~batch.terminated[:, 0] * chosen
    torch.testing.assert_close(targets.returns[:, 0], expected)
    assert not torch.equal(online.argmax(-1), target.argmax(-1))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("train_positions", [1, 3])
def test_sparing_the_target_network_the_first_row_changes_no_return(double: bool, train_positions: int) -> None:
    """The online network's values stand for a row that the policy does not read and that no return depends on."""
    agent, batch = make_agent(policy=Greedy(double), train_positions=train_positions), make_batch()
    agent.update(make_batch(seed=2))
    with torch.no_grad():  # both networks far from each other
        for parameter in agent.network.parameters():
            parameter.add_(torch.randn_like(parameter))
    obs = batch.obs.transpose(0, 1).flatten(0, 1)
    trained = agent.network(obs[: train_positions * len(batch)])
    assert agent.policy.reads_rows == "next"
    spared_inputs, spared, _ = agent._targets(batch, obs, trained, 0.9 * ~batch.terminated)
    agent.policy.reads_rows = "trained"
    inputs, targets, _ = agent._targets(batch, obs, trained, 0.9 * ~batch.terminated)
    assert not torch.allclose(spared_inputs.q[:, 0], inputs.q[:, 0])
    torch.testing.assert_close(spared.returns, targets.returns)


def test_measuring_changes_nothing() -> None:
    agents = [make_agent(), make_agent()]
    for number, agent in enumerate(agents):
        for seed in range(3):
            agent.update(make_batch(seed=seed), measure=number == 1)
    vectors = [nn.utils.parameters_to_vector(agent.parameters) for agent in agents]
    torch.testing.assert_close(vectors[0], vectors[1], rtol=0, atol=0)


def test_state_round_trip_goes_on_bit_for_bit() -> None:
    whole, first, second = make_agent(rate=0.1), make_agent(rate=0.1), make_agent(rate=0.1)
    for seed in range(6):
        whole.update(make_batch(seed=seed))
    for seed in range(3):
        first.update(make_batch(seed=seed))
    second.update(make_batch(seed=9))
    second.load_state_dict(first.state_dict())
    for seed in range(3, 6):
        second.update(make_batch(seed=seed))
    vectors = [nn.utils.parameters_to_vector([*a.parameters, *a.target_network.parameters()]) for a in (whole, second)]
    torch.testing.assert_close(vectors[0], vectors[1], rtol=0, atol=0)
    assert second.updates == 6


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"train_positions": 4}, "train_positions must lie between 1 and the window"),
    ({"train_positions": 0}, "train_positions must lie between 1 and the window"),
    ({"window": 0}, "window must be at least 1"),
    ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"gamma": 1.5}, "gamma must lie between 0 and 1"),
    ({"priority_max_share": 3.0}, "priority_max_share must lie between 0 and 1"),
    ({"policy_coefficient": -1.0}, "policy_coefficient must be finite and not negative"),
    ({"policy_coefficient": math.inf}, "policy_coefficient must be finite and not negative"),
])  # fmt: skip
def test_wrong_settings_are_refused(changes, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_agent(**changes)


def test_a_network_with_buffers_is_refused() -> None:
    """Running statistics would be neither averaged into the target network nor sent to actors."""
    network = make_agent().network
    network.register_buffer("running_mean", torch.zeros(3))
    with pytest.raises(ValueError, match=r"the network keeps buffers \(running_mean\)"):
        check_buffers(network)
    del network.running_mean
    network.register_buffer("constant", torch.zeros(3), persistent=False)
    check_buffers(network)


@pytest.mark.parametrize(("build", "sentence"), [
    (lambda: OptimizerConfig(-1e-3, 1e-5, 0.0, 10.0), "learning_rate must be finite and not negative"),
    (lambda: OptimizerConfig(1e-3, 1e-5, -0.1, 10.0), "weight_decay must be finite and not negative"),
    (lambda: OptimizerConfig(1e-3, 1e-5, 0.0, 0.0), "max_gradient_norm must be positive"),
    (lambda: TargetConfig(1.5, 1, False), r"rate must lie in \(0, 1\]"),
    (lambda: TargetConfig(0.0, 1, False), r"rate must lie in \(0, 1\]"),
    (lambda: TargetConfig(0.1, 0, False), "period_updates must be at least 1"),
])  # fmt: skip
def test_wrong_numbers_are_refused(build, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("field", "value"), [("reward", math.nan), ("replay_weight", math.inf)])
def test_an_update_that_is_not_finite_changes_no_parameter(device: str, field: str, value: float) -> None:
    agents = [make_agent(rate=0.1, device=device) for _ in "ab"]
    good, bad = make_batch(), make_batch(seed=2)
    getattr(bad, field)[1] = value
    for agent in agents:
        agent.update(good)
    before = copy.deepcopy(agents[0].state_dict())
    assert not agents[0].update(bad).finite
    after = agents[0].state_dict()
    for name in ("network", "policy"):
        for key, values in before[name].items():
            assert torch.equal(after[name][key], values), key
    for k, moments in before["optimizer"]["state"].items():
        for key, values in moments.items():
            assert torch.equal(after["optimizer"]["state"][k][key], values), key
    for agent in agents:  # and it goes on as if that update had not been
        agent.target_network.load_state_dict(agent.network.state_dict())  # which followed once more
        assert agent.update(good).finite
    for key, values in agents[1].network.state_dict().items():
        assert torch.equal(agents[0].network.state_dict()[key], values), key


def test_health_metrics_are_finite_numbers() -> None:
    metrics = make_agent().update(make_batch(), measure=True).metrics
    assert {"trace_length", "rho_ess", "sample_age_updates", "policy_entropy", "outside_support_share"} <= set(metrics)
    for name, number in metrics.items():
        assert number.dim() == 0, name
        assert torch.isfinite(number), name
