"""Whether a behavior is a function that returns distributions."""

from __future__ import annotations

import copy

import torch

from offpol.contracts.answers import distribution, untouched, waves
from offpol.types import Behavior


def check_behavior(behavior: Behavior, num_streams: int, num_actions: int) -> None:
    """Show a behavior values of all its streams; raise ValueError where it returns no distributions [E, A]."""
    if (over := getattr(behavior, "over", "q")) not in ("q", "policy"):
        raise ValueError(
            f"{type(behavior).__name__}.over says what it follows, by which the final games are played: it must be 'q' "
            f"or 'policy', not {over!r}"
        )
    name, behavior, q = f"{type(behavior).__name__}.probs", copy.deepcopy(behavior), waves(num_streams, num_actions)
    pi = torch.softmax(q, -1)
    with torch.random.fork_rng(devices=[]), untouched(name, q, pi):
        probs = distribution(behavior.probs(q, pi, 0), name, q.shape).clone()
        again = behavior.probs(q, pi, 0)
    if not torch.equal(probs, again):
        raise ValueError(
            f"{name} returns something else for the same values and agent step: what it keeps from one call to the "
            "next would be lost with the run. Make it a function of its arguments, `agent_steps` among them"
        )
