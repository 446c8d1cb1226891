"""One root seed makes every stream of random numbers, by name."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from offpol.types import StateDict


def seed_for(root: int, name: str, index: int = 0) -> int:
    """Return the seed of the stream `name` (and its `index`th copy), the same on every machine.

    Streams of different names are independent (numpy's SeedSequence), so adding one never changes another.
    Seeds lie below 2**31 - 2**16: they fit the emulator's int32, even with an env's number added.
    """
    word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    state = np.random.SeedSequence([root, word, index]).generate_state(1, np.uint64)
    return int(state[0] % (2**31 - 2**16))


def seed_globals(root: int) -> None:
    """Seed the generators that libraries share, so that a run does not depend on what ran before it.

    Envs, actors and replays have generators of their own. What is drawn inside networks and critics comes from
    torch's global one: initial parameters, resets, noisy layers, the members that an ensemble's minimum is over.
    """
    torch.manual_seed(seed_for(root, "torch"))
    np.random.seed(seed_for(root, "numpy"))  # noqa: NPY002 - third-party code may still draw from it
    random.seed(seed_for(root, "python"))


def global_state() -> StateDict:
    """Return the state of the global generators, fit for a checkpoint."""
    numpy = dict(np.random.get_state(legacy=False))  # noqa: NPY002
    numpy["state"] = {**numpy["state"], "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64))}
    state = {
        "torch": torch.get_rng_state(),
        "numpy": numpy,
        "python": random.getstate(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_initialized() else {})


def load_global_state(state: StateDict) -> None:
    """Put the global generators where `global_state` found them."""
    torch.set_rng_state(state["torch"])
    key = state["numpy"]["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": key}})  # noqa: NPY002
    random.setstate(state["python"])
    if "cuda" in state and torch.cuda.is_available():
        for device, random_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):  # or fewer here
            torch.cuda.set_rng_state(random_state, device)
