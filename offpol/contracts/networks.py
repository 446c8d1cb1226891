"""Whether a network returns the shapes that critics and policies read, and the same each time."""

from __future__ import annotations

import torch
from torch import Tensor

from offpol.types import Critic, Network


def check_network(network: Network, obs: Tensor, num_actions: int, critic: Critic, needs_mu: bool) -> None:
    """Show a network observations [M, *obs_shape]; raise ValueError where what it returns is not what it must be."""
    name, bins = type(network).__name__, len(critic.initial_logits)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        first, second = network(obs), network(obs)
    wanted = {"q_logits": (critic.num_critics, len(obs), num_actions, bins), "policy_logits": (len(obs), num_actions)}
    for field, shape in wanted.items():
        got = getattr(first, field, None)
        if not isinstance(got, Tensor) or got.shape != shape:
            found = f"of shape {tuple(got.shape)}" if isinstance(got, Tensor) else f"that are {type(got).__name__}"
            raise ValueError(
                f"{name} returns {field} {found} for {len(obs)} observations, but they must be of shape {shape}: "
                "critics, observations, actions, bins, or for the policy observations, actions"
            )
    # A GPU may add up the two in another order.
    near = 0.0 if obs.device.type == "cpu" else 1e-3
    if needs_mu and not torch.allclose(first.q_logits, second.q_logits, rtol=near, atol=near / 10):
        raise ValueError(
            f"{name} returns something else for the same observations (by dropout?), so that actions would not have "
            "the probability that is logged, which the trace or the policy reads: take the noise out, or use others"
        )


def check_buffers(network: Network) -> None:
    """Raise ValueError for a network that keeps what neither target networks nor actors would be given."""
    parameters: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    kept = [name for name in network.state_dict() if name not in parameters]
    if kept:
        raise ValueError(
            f"the network keeps buffers ({', '.join(kept[:3])}), which neither its target network nor actors elsewhere "
            "would follow: normalise by LayerNorm instead of BatchNorm, keep what is learned as a parameter with "
            "requires_grad=False, and what is constant by register_buffer(..., persistent=False)"
        )
