"""Whether a behavior returns distributions."""

from __future__ import annotations

import copy

import torch

from offpol.contracts.answers import distribution, waves
from offpol.types import Behavior


def check_behavior(behavior: Behavior, num_streams: int, num_actions: int) -> None:
    """Show a behavior values of all its streams; raise ValueError where it returns no distributions [E, A]."""
    q = waves(num_streams, num_actions)
    with torch.random.fork_rng(devices=[]):
        probs = copy.deepcopy(behavior).probs(q, torch.softmax(q, -1), 0)
    distribution(probs, f"{type(behavior).__name__}.probs", q.shape)
