"""What begins anew: which parameters a reset draws, what it leaves, and how gamma and the window are annealed."""

import pytest
import torch
from test_agent import make_agent, make_batch
from test_conf import composed
from torch import nn

from offpol.agent import discounts
from offpol.layers import HeadsConfig
from offpol.policy.behavior_cloning import BehaviorCloning
from offpol.resets import AnnealingConfig, ResetConfig, reset
from offpol.trace.n_step import NStep

BBF = AnnealingConfig(10_000, 0.97, 3)


def test_gamma_and_window_go_as_bbfs_do() -> None:
    """n: 10 to 3 exponentially, rounded; gamma: .97 to .997 exponentially in 1 - gamma; by the published formula."""
    assert BBF(0.997, 10, 0) == (pytest.approx(0.97), 10)
    assert BBF(0.997, 10, 10_000) == BBF(0.997, 10, 99_999) == (pytest.approx(0.997), 3)
    assert BBF(0.997, 10, 5_000) == (pytest.approx(1 - (0.03 * 0.003) ** 0.5), round(30**0.5))
    windows = [BBF(0.997, 10, updates)[1] for updates in range(0, 10_001, 10)]
    assert windows == sorted(windows, reverse=True)
    assert set(windows) == set(range(3, 11))
    assert AnnealingConfig(0, 0.5, 1)(0.9, 7, 3) == (0.9, 7)


def test_resets_fall_on_their_updates_and_stop() -> None:
    resets = ResetConfig(40, 160, 0.5)
    assert [updates for updates in range(400) if resets.due(updates)] == [40, 80, 120, 160]
    assert [resets.since(updates) for updates in (0, 39, 40, 159, 160, 300)] == [0, 39, 0, 39, 0, 140]
    assert [updates for updates in range(400) if ResetConfig(150, None, 0.5).due(updates)] == [150, 300]
    assert [updates for updates in range(400) if ResetConfig(100, 250, 0.5).due(updates)] == [100, 200]
    never = ResetConfig(0, None, 0.5)
    assert not any(never.due(updates) for updates in range(100))
    assert never.since(77) == 77


def test_a_reset_draws_heads_and_blends_the_rest() -> None:
    agent = make_agent(policy=BehaviorCloning())
    for seed in range(3):
        agent.update(make_batch(seed=seed))
    old = {name: parameter.detach().clone() for name, parameter in agent.network.named_parameters()}
    moments = {name: agent.optimizer.state[p]["exp_avg"].clone() for name, p in agent.network.named_parameters()}
    fresh = agent.build_network()
    drawn = dict(fresh.named_parameters())
    reset(agent.network, fresh, 0.8, agent.optimizer)
    names = set()
    for name, parameter in agent.network.named_parameters():
        head = name.startswith("heads.")
        names.add(head)
        want = drawn[name] if head else 0.8 * old[name] + 0.2 * drawn[name]
        torch.testing.assert_close(parameter.detach(), want.detach())
        state = agent.optimizer.state[parameter]
        assert (state["step"] == 0) == head
        torch.testing.assert_close(state["exp_avg"], torch.zeros_like(state["exp_avg"]) if head else moments[name])
    assert names == {True, False}


def test_the_agent_resets_both_networks_each_with_its_own_draw() -> None:
    agent, plain = make_agent(rate=0.1, resets=ResetConfig(2, None, 1.0)), make_agent(rate=0.1)
    for number in (1, 2):
        for one in (agent, plain):
            one.update(make_batch(seed=number))
        same = [torch.equal(a, b) for a, b in zip(agent.network.parameters(), plain.network.parameters(), strict=True)]
        assert all(same) == (number == 1)
    networks = agent.network, agent.target_network
    heads = [dict(network.named_parameters())["heads.q_out.weight"] for network in networks]
    before = dict(plain.network.named_parameters())["heads.q_out.weight"]
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], before)
    assert torch.equal(agent.network.torso[0].weight, plain.network.torso[0].weight)  # keep 1
    agent.update(make_batch(seed=3))
    assert not torch.equal(heads[0], agent._online[-1])


def test_a_shortened_window_is_that_window() -> None:
    """Annealing from 3 to 1 ends at the update of an agent of one step; the discount is the annealed one."""
    annealed = make_agent(NStep(), train_positions=1, annealing=AnnealingConfig(2, 0.5, 1))
    assert annealed.horizon() == (0.5, 3)
    one_step = make_agent(NStep(), window=1, train_positions=1, gamma=0.9)
    annealed.updates = 2
    assert annealed.horizon() == (pytest.approx(0.9), 1)
    long, short = make_batch(), make_batch().shortened(1)
    assert long.shortened(2).obs.shape[1] == 3
    assert short.action.shape == (5, 1)
    got, want = annealed.update(long), one_step.update(short)
    torch.testing.assert_close(got.priority, want.priority)
    for a, b in zip(annealed.network.parameters(), one_step.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    annealed.updates = 0
    obs, gamma = long.obs.transpose(0, 1).flatten(0, 1), annealed.horizon()[0]
    inputs, _, _ = annealed._targets(long, obs, annealed.network(long.obs[:, 0]), discounts(long, gamma))
    assert set(inputs.discount.unique().tolist()) == {0.0, 0.5}


def test_the_target_network_acts_where_it_is_told_to() -> None:
    from offpol.agent import TargetConfig

    obs = make_batch().obs[:, 0]
    for acts in (True, False):
        agent = make_agent(target=TargetConfig(0.1, 1, acts))
        agent.update(make_batch())
        network = agent.target_network if acts else agent.network
        assert torch.equal(agent.values(obs)[0], agent.values(obs, network)[0])
        assert not torch.equal(agent.values(obs, agent.network)[0], agent.values(obs, agent.target_network)[0])


def test_weight_decay_spares_biases_and_norms() -> None:
    from offpol.optimizer import OptimizerConfig

    agent = make_agent(optimizer=OptimizerConfig(1e-3, 1e-5, 0.1, 10.0))
    decays = {id(p): group["weight_decay"] for group in agent.optimizer.param_groups for p in group["params"]}
    for name, parameter in agent.network.named_parameters():
        assert decays[id(parameter)] == (0.0 if "bias" in name else 0.1), name
    assert len(make_agent().optimizer.param_groups) == 1


def test_weight_decay_spares_the_norms_of_whole_networks() -> None:
    """Stacked for `Networks`, a norm's scales have two dimensions too."""
    from offpol.ensemble import Networks
    from offpol.optimizer import OptimizerConfig, adamw

    networks = Networks([nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)) for _ in range(2)])
    optimizer = adamw([networks], OptimizerConfig(1e-3, 1e-5, 0.1, 10.0))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in networks.named_parameters():
        assert decays[id(parameter)] == (0.1 if name == "member.0.weight" else 0.0), name


def test_weight_decay_spares_the_norms_of_heads() -> None:
    """Each critic's own: their scales have three dimensions."""
    from offpol.optimizer import OptimizerConfig

    heads = HeadsConfig(8, 8, dueling=False, layer_norm=True, noisy=0.0, policy_gradient_to_torso=True)
    agent = make_agent(heads=heads, optimizer=OptimizerConfig(1e-3, 1e-5, 0.1, 10.0))
    decays = {id(p): group["weight_decay"] for group in agent.optimizer.param_groups for p in group["params"]}
    norms = {name: decays[id(p)] for name, p in agent.network.named_parameters() if "norm" in name}
    assert set(norms) == {f"heads.{part}_norm.{name}" for part in ("q", "policy") for name in ("weight", "bias")}
    assert set(norms.values()) == {0.0}


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"annealing": AnnealingConfig(5, 0.9, 2)}, r"must lie between train_positions \(3\) and the window \(3\)"),
    ({"annealing": AnnealingConfig(5, 0.9, 3), "gamma": 1.0}, "gamma must be below 1 where"),
])  # fmt: skip
def test_annealing_towards_nothing_is_refused(changes, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_agent(**changes)


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: ResetConfig(-1, None, 0.5), "must not be negative"), (lambda: ResetConfig(1, -1, 0.5), "must not be neg"),
    (lambda: ResetConfig(1, None, 1.5), "keep must lie in"), (lambda: AnnealingConfig(-1, 0.9, 3), "over_updates must"),
    (lambda: AnnealingConfig(1, 1.0, 3), "gamma_start must"), (lambda: AnnealingConfig(1, 0.9, 0), "window_end must"),
])  # fmt: skip
def test_wrong_values_are_refused(make, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_network_without_heads_is_refused_where_it_would_be_reset() -> None:
    class Bare(torch.nn.Linear):
        pass

    with pytest.raises(ValueError, match="Bare has no submodule called heads"):
        ResetConfig(10, None, 0.5).check(Bare(2, 2))
    ResetConfig(0, None, 0.5).check(Bare(2, 2))


def test_bbf_is_wide_where_its_own_network_plays() -> None:
    assert composed("experiment=bbf_style")["network"]["width"] == 4
    assert "width" not in composed("experiment=bbf_style", "task=minatar")["network"]
