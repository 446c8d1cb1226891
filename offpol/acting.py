"""Forward passes: in the precision that was asked for, and for actors on their own device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from offpol.cuda_graphs import Recorder
from offpol.transfer import download, upload
from offpol.types import Critic, Network, NetworkOutput, Policy

Autocast = Literal["none", "bfloat16"]


def forward(network: Network, obs: Tensor, autocast: Autocast) -> NetworkOutput:
    """Call a network on observations [M, ...] and let it compute in that type; what it returns is float32."""
    if autocast == "none":
        return network(obs)
    with torch.autocast(obs.device.type, torch.bfloat16, cache_enabled=False):  # each weight is read but once
        output = network(obs)
    return NetworkOutput(output.q_logits.float(), output.policy_logits.float())


class Acting:
    """Answers values for actors, on their device.

    Where that is not the learner's, critic and policy are copied once: nothing that learning changes enters
    `Critic.value` and `Policy.probs`. Networks are copied whenever there was an update.
    """

    def __init__(
        self, critic: Critic, policy: Policy, learner_device: torch.device, device: torch.device, autocast: Autocast
    ) -> None:
        self.critic, self.policy = critic, policy
        self.shares_device = device == learner_device
        if not self.shares_device:
            self.critic, self.policy = copy.deepcopy(critic).to(device), copy.deepcopy(policy).to(device)
        self.device = device
        self.autocast: Autocast = autocast if self.shares_device or device.type != "cpu" else "none"  # slower on most
        self._answer: Callable[..., tuple[Tensor, Tensor]] = self._compute
        self._copy: Network | None = None
        self._updates: int | None = None  # that the copy has seen

    @torch.inference_mode()
    def values(self, obs: Tensor, network: Network) -> tuple[Tensor, Tensor]:
        """Answer Q(s, .) and pi(.|s), both [E, A] on the CPU, for observations [E, *obs_shape] there."""
        return download(*self._answer(upload(obs, self.device), network, network.training))

    def record(self) -> None:
        """Answer by CUDA graphs from now on."""
        self._answer = Recorder(self._compute, self.device, priority=-1)  # an actor waits; updates are queued

    def _compute(self, obs: Tensor, network: Network, training: bool) -> tuple[Tensor, Tensor]:
        """Do the device's part of `values`; `training` is the network's own mode, which sets graphs apart."""
        output = forward(network, obs.float(), self.autocast)
        q = self.critic.value(output.q_logits).mean(0)
        return q, self.policy.probs(q, output.policy_logits)

    def copy_of(self, network: Network) -> Network:
        """Copy a network to the actor's device."""
        return copy.deepcopy(network).to(self.device)

    def on_device(self, network: Network, updates: int) -> Network:
        """Return a network as it is after so many updates: itself, or a copy of it on the actor's device."""
        if self.shares_device:
            return network
        if self._copy is None:
            self._copy = self.copy_of(network)
        if self._updates != updates:
            copy_parameters(network, self._copy)
            self._updates = updates
        return self._copy.train(network.training)

    def invalidate(self) -> None:
        """Copy the network anew, whatever the number of updates."""
        self._updates = None


@torch.no_grad()
def copy_parameters(source: Network, target: Network) -> None:
    """Give a network the parameters of another one, which may lie elsewhere."""
    parameters: list[Tensor] = [*source.parameters()]
    followers: list[Tensor] = [*target.parameters()]
    here, there = parameters[0].device, followers[0].device
    if here != there and len({parameter.dtype for parameter in parameters}) == 1:  # one copy, for one wait
        together = torch.cat([parameter.flatten() for parameter in parameters]).to(there)
        parts = together.split([parameter.numel() for parameter in parameters])
        parameters = [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
    torch._foreach_copy_(followers, parameters)
