"""Actors on a device of their own, networks in half precision, and updates that nobody waits for."""

import copy
import dataclasses
from functools import partial

import pytest
import torch
from no_waiting import no_waiting
from test_agent import HEADS, SPEC, make_batch
from test_agent import make_agent as plain_agent
from test_every_part import NOISY, PARTS, make_agent
from torch import nn

from offpol.acting import Acting, forward
from offpol.agent import Agent
from offpol.network.nature import Nature
from offpol.transfer import download, upload
from offpol.types import Outputs

OBS = torch.randn(4, *SPEC.obs_shape, generator=torch.Generator().manual_seed(0))


def elsewhere(agent: Agent) -> Agent:
    """Let actors use cpu:0, which torch takes for another device than cpu."""
    agent.acting = Acting(agent.critic, agent.policy, agent.device, torch.device("cpu:0"), "none")
    return agent


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_no_update_waits_for_its_device(file) -> None:
    agent, batch = make_agent(**{file.parent.name: file.stem}), make_batch()
    agent.update(batch)  # what is done once may wait
    with no_waiting():
        for measure in (False, True):
            agent.update(batch, measure)


def test_actors_elsewhere_act_by_the_newest_parameters() -> None:
    here, there = make_agent(), elsewhere(make_agent())
    seen = []
    for k in range(4):
        ours, theirs = here.values(OBS), there.values(OBS)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
        seen.append(ours[0])
        for agent in (here, there):
            agent.update(make_batch(seed=k))
    assert not torch.equal(seen[0], seen[3])
    used = there.acting.on_device(there.acting_network, there.updates)
    assert used is not there.network
    assert here.acting.on_device(here.acting_network, here.updates) is here.network
    there.load_state_dict(copy.deepcopy(make_agent().state_dict()) | {"updates": there.updates})
    assert torch.equal(there.values(OBS)[0], make_agent().values(OBS)[0])


def test_actors_elsewhere_follow_what_is_trained_or_evaluated() -> None:
    agent = elsewhere(make_agent(NOISY, trace="one_step", policy="greedy"))
    assert not torch.equal(agent.values(OBS)[0], agent.values(OBS)[0])
    agent.network.train(False)
    assert torch.equal(agent.values(OBS)[0], agent.values(OBS)[0])
    assert torch.equal(agent.values(OBS)[0], agent.critic.value(agent.network(OBS).q_logits).mean(0))


def test_half_precision_is_the_networks_alone() -> None:
    whole, half = make_agent(), make_agent()
    half.forward = lambda network, obs: forward(network, obs, "bfloat16")
    outputs = [agent.forward(agent.network, OBS) for agent in (whole, half)]
    for one, other in zip(*outputs, strict=True):
        assert one.dtype == other.dtype == torch.float32
        torch.testing.assert_close(other, one, rtol=0.05, atol=0.02)
    assert not torch.equal(outputs[0].q_logits, outputs[1].q_logits)
    for seed in range(5):
        updates = [agent.update(make_batch(seed=seed), measure=True) for agent in (whole, half)]
        torch.testing.assert_close(updates[1].priority, updates[0].priority, rtol=0.05, atol=0.05)
        assert updates[1].priority.dtype == torch.float32
        assert {number.dtype for number in updates[1].metrics.values()} == {torch.float32}
    for parameter, gradient_of in zip(half.parameters, whole.parameters, strict=True):
        assert parameter.dtype == parameter.grad.dtype == gradient_of.dtype == torch.float32
    vectors = [nn.utils.parameters_to_vector(agent.parameters) for agent in (whole, half)]
    torch.testing.assert_close(*vectors, rtol=0.05, atol=0.01)


def test_the_agent_and_its_actors_compute_in_what_was_asked_for() -> None:
    agent = make_agent(autocast="bfloat16")
    plain = make_agent()
    assert not torch.equal(agent.values(OBS)[0], plain.values(OBS)[0])
    torch.testing.assert_close(agent.values(OBS)[0], plain.values(OBS)[0], rtol=0.05, atol=0.05)
    agent.update(make_batch())
    plain.update(make_batch())
    assert not torch.equal(*[nn.utils.parameters_to_vector(each.parameters) for each in (agent, plain)])


def test_bytes_that_become_bfloat16_at_once_are_the_same_update() -> None:
    """As bytes that become float32 first, which a network that computes in bfloat16 would round anyway."""
    spec = dataclasses.replace(SPEC, frame_shape=(36, 36), stack=4, dtype=torch.uint8)
    pixels = torch.randint(0, 256, (5, 4, *spec.obs_shape), dtype=torch.uint8)
    build_network = partial(Nature, False, HEADS, spec=spec, outputs=Outputs(torch.zeros(1), 1, True))
    types, parameters = [], []
    for obs in (pixels, pixels.float()):
        agent, seen = plain_agent(build_network=build_network, autocast="bfloat16"), []
        agent.network.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].dtype))
        for seed in range(3):
            agent.update(make_batch(seed=seed).replace(obs=obs))
        types.append(set(seen))
        parameters.append(torch.cat([parameter.flatten() for parameter in agent.parameters]))
    assert types == [{torch.bfloat16}, {torch.float32}]
    assert torch.equal(*parameters)


def test_on_the_cpu_nothing_is_copied() -> None:
    device, numbers = torch.device("cpu"), torch.arange(3.0)
    assert upload(numbers, device) is numbers
    assert upload(numbers.numpy(), device).data_ptr() == numbers.data_ptr()
    assert download(numbers, numbers)[1] is numbers
