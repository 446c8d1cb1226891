"""Whether a network returns what critics and policies read, row by row, the same each time, and can learn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from offpol.contracts.answers import said, untouched, waves
from offpol.types import Critic, EnvSpec, Network, NetworkOutput

ROWS = 3  # observations that networks are shown


def shown_observations(spec: EnvSpec, device: torch.device) -> Tensor:
    """Make observations [M, *obs_shape] as networks get them: float32, bytes from 0 to the largest."""
    obs = waves(ROWS, *spec.obs_shape).to(device)
    return ((obs + 1.0) * (spec.byte_high / 2)).round() if spec.dtype == torch.uint8 else obs


def check_network(
    network: Network, obs: Tensor, num_actions: int, critic: Critic, needs_mu: bool, policy: bool
) -> None:
    """Show a network observations [M, *obs_shape]; raise ValueError where what it returns is not what it must be.

    `needs_mu` says that the probability of its actions is asked for, `policy` that a policy is learned.
    """
    name, bins = type(network).__name__, len(critic.initial_logits)
    with torch.random.fork_rng(devices=[]):
        with untouched(name, obs):
            first = network(obs)
        _check_shapes(name, first, len(obs), num_actions, (critic.num_critics, bins))
        _require_gradients(name, network, first, policy)
        with torch.no_grad():
            second, alone = network(obs), network(obs[:1])
    # A GPU may add up the two in another order.
    rounding = 0.0 if obs.device.type == "cpu" else 1e-3
    same = _near(first, second, len(obs), rounding, rounding / 10)
    if needs_mu and not same:
        raise ValueError(
            f"{name} returns something else for the same observations (by dropout?), so that actions would not have "
            "the probability that is logged, which the trace or the policy reads: take the noise out, or use others"
        )
    if same and not _near(first, alone, 1, 1e-2, 1e-3):
        raise ValueError(
            f"{name} returns something else for an observation that is alone (by normalising over the batch?), so that "
            "acting would not be by the values that are learned: compute each observation by itself"
        )


def check_bfloat16(answer: Callable[[Tensor], NetworkOutput], obs: Tensor, name: str) -> None:
    """Raise ValueError where a network cannot be asked, under autocast, for bytes [M, *obs_shape] given as bfloat16."""
    try:
        answer(obs.bfloat16())
    except RuntimeError as error:
        raise ValueError(
            f"{name} does not take bytes as bfloat16, as run.autocast=bfloat16 gives them ({error}): convert them in "
            "it, or leave autocast out"
        ) from error


def _near(one: NetworkOutput, two: NetworkOutput, rows: int, rtol: float, atol: float) -> bool:
    """Compare two outputs for the same first observations."""
    pairs = ((one.q_logits[:, :rows], two.q_logits), (one.policy_logits[:rows], two.policy_logits))
    return all(torch.allclose(a, b, rtol=rtol, atol=atol) for a, b in pairs)


def _check_shapes(
    name: str, output: NetworkOutput, rows: int, num_actions: int, critics_and_bins: tuple[int, int]
) -> None:
    critics, bins = critics_and_bins
    wanted = {"q_logits": (critics, rows, num_actions, bins), "policy_logits": (rows, num_actions)}
    for field, shape in wanted.items():
        got = getattr(output, field, None)
        if not isinstance(got, Tensor) or got.shape != shape:
            found = f"of shape {tuple(got.shape)}" if isinstance(got, Tensor) else f"that are {type(got).__name__}"
            raise ValueError(
                f"{name} returns {field} {found} for {rows} observations, but they must be of shape {shape}: "
                "critics, observations, actions, bins, or for the policy observations, actions"
            )
        if got.dtype != torch.get_default_dtype():
            raise ValueError(f"{name} returns {field} {said(got)}, but must return {torch.get_default_dtype()}")


def _require_gradients(name: str, network: Network, output: NetworkOutput, policy: bool) -> None:
    """Raise ValueError where nothing of a network would be learned by one of the losses."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for field in ("q_logits", *["policy_logits"] * policy):
        logits: Tensor = getattr(output, field)
        weighed = (logits * waves(*logits.shape).to(logits.device)).sum()
        found = (
            torch.autograd.grad(weighed, parameters, retain_graph=True, allow_unused=True)
            if weighed.requires_grad and parameters
            else ()
        )
        if not any(gradient is not None and bool(gradient.any()) for gradient in found):
            raise ValueError(
                f"{name}'s {field} have no gradient in its parameters, so that nothing would be learned: are they "
                "detached, or always the same?"
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
