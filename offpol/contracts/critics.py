"""Whether a critic decodes, targets and learns each row by itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from offpol.contracts.answers import fields_of, floats, near, require_gradient, said, two_windows, untouched, waves
from offpol.types import Critic, Trace


def check_critic(critic: Critic, trace: Trace, window: int) -> None:
    """Show a critic the windows that traces are shown; raise ValueError where an answer is not what it must be."""
    name, members, bins = type(critic).__name__, critic.num_critics, len(critic.initial_logits)
    critic, inputs = copy.deepcopy(critic), two_windows(window)
    with torch.random.fork_rng(devices=[]):
        logits = waves(members, *inputs.q_values.shape, bins)  # [H, B, n+1, A, K]
        with untouched(f"{name}.value", logits):
            values = floats(critic.value(logits), f"{name}.value", logits.shape[:-1])
        if not near(critic.value(logits[..., :1, :]), values[..., :1]):
            raise ValueError(f"{name}.value mixes actions: logits [..., K] are decoded to [...], each action by itself")
        values = waves(members, members + 2, members + 1)  # no two axes alike
        with untouched(f"{name}.join", values):
            floats(critic.join(values), f"{name}.join", values.shape[1:])
        answered = trace(inputs)
        with untouched(f"{name}.targets", *fields_of(inputs), *answered, logits):
            targets = critic.targets(inputs, answered, logits, getattr(trace, "mixture", None))
        if not isinstance(targets, Tensor) or targets.shape[:2] != inputs.reward.shape:
            raise ValueError(f"{name}.targets gives {said(targets)}, but a window's targets are [B, n, ...]")
        far = answered.returns * 1e6
        with untouched(f"{name}.clamp", far):
            floats(critic.clamp(far), f"{name}.clamp", far.shape)
        _check_loss(critic, targets.flatten(0, 1), bins)


def _check_loss(critic: Critic, targets: Tensor, bins: int) -> None:
    """Learn from targets [M, ...]: [H, M], each row from its own target."""
    name, logits = type(critic).__name__, waves(critic.num_critics, len(targets), bins).requires_grad_()
    with untouched(f"{name}.loss", logits, targets):
        loss = floats(critic.loss(logits, targets), f"{name}.loss", logits.shape[:-1])
    require_gradient(loss, logits, name)
    if not near(critic.loss(logits[:, :1], targets[:1]), loss[:, :1]):
        raise ValueError(
            f"{name}.loss compares a row with the targets of others, as [M, 1] broadcast against [M] does: of logits "
            "[H, M, K] each row has a target of its own"
        )
