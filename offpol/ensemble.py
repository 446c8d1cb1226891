"""Whole networks as an ensemble, run as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offpol.layers import ChannelNorm
from offpol.types import NetworkOutput


class Networks(nn.Module):
    """H networks of one shape in one batched pass, each with one critic: nothing is shared between them.

    The parameters of all are stacked, so `member` stands for any of them and its parameters have a leading axis of H.
    The policy's logits are the members' mean.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        parameters, buffers = torch.func.stack_module_state(list(members))
        self.member = members[0]
        for name, stacked in parameters.items():
            path, _, last = name.rpartition(".")
            trained = self.member.get_parameter(name).requires_grad
            setattr(self.member.get_submodule(path), last, nn.Parameter(stacked.detach(), requires_grad=trained))
        for layer in self.member.modules():
            if isinstance(layer, ChannelNorm):
                layer.plain = True
        for name, stacked in buffers.items():
            path, _, last = name.rpartition(".")
            setattr(self.member.get_submodule(path), last, stacked)

    def forward(self, obs: Tensor) -> NetworkOutput:
        """Map observations [M, *obs_shape] to values of every member and a policy."""
        state = {**dict(self.member.named_parameters()), **dict(self.member.named_buffers())}

        def one(state: dict[str, Tensor]) -> NetworkOutput:
            output: NetworkOutput = torch.func.functional_call(self.member, state, (obs,))
            return output

        output = torch.vmap(one, randomness="different")(state)
        return NetworkOutput(output.q_logits.squeeze(1), output.policy_logits.mean(0))
