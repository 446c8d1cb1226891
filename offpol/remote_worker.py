"""What acts in a process of its own, for a learner elsewhere: parameters come in, chunks of rows go out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from offpol import cpu
from offpol.types import Actors, Rows

if TYPE_CHECKING:
    from offpol.actor import Episode
    from offpol.agent import Agent

Parameters = dict[str, dict[str, np.ndarray]]  # of the network and the policy, by name


class Chunk(NamedTuple):
    """T steps of a worker's E envs."""

    rows: Rows  # arrays [T, E, ...]
    episodes: list[tuple[int, Episode]]  # games that ended, with the step they ended in
    acted_s: float  # what the steps took
    waited_s: float  # how long the worker had had nothing to do before

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return sum(values.nbytes for values in self.rows)


class Worker:
    """Steps one worker's share of the envs by parameters that it is given.

    Args:
        actors: builds them.
        worker, num_workers, restarts: which share, and how often it was lost before.
        chunk_steps: T, steps of its envs between two deliveries.
    """

    def __init__(self, actors: Actors, worker: int, num_workers: int, restarts: int, chunk_steps: int) -> None:
        cpu.set_up(1)  # there is a worker for each core that is to act
        self.agent, self.actor = actors.build_worker(worker, num_workers, restarts)
        self.chunk_steps = chunk_steps
        self.version = -1
        self.free_since = time.perf_counter()

    def start(self) -> None:
        """Say that everything is built."""

    def act(self, parameters: Parameters, policy_version: int, agent_steps: int) -> Chunk:
        """Take T steps by the parameters of that update; `agent_steps` is where the run stood when this was asked."""
        began = time.perf_counter()
        if policy_version != self.version:
            adopt(self.agent, parameters)
            self.version = policy_version
        steps, episodes = [], []
        for step in range(self.chunk_steps):
            rows, ended = self.actor.step(self.actor.act(agent_steps, policy_version))
            steps.append(rows)
            episodes += [(step, episode) for episode in ended]
        joined = Rows(*map(np.stack, zip(*steps, strict=True)))
        waited_s, self.free_since = began - self.free_since, time.perf_counter()
        return Chunk(joined, episodes, self.free_since - began, waited_s)


def published(agent: Agent) -> Parameters:
    """Return all that an agent acts by, as arrays; they may share its memory."""
    parts = {"network": agent.acting_network, "policy": agent.policy}
    return {
        name: {key: values.detach().cpu().numpy() for key, values in part.state_dict().items()}
        for name, part in parts.items()
    }


def num_bytes(parameters: Parameters) -> int:
    """Count the bytes of published parameters."""
    return sum(values.nbytes for part in parameters.values() for values in part.values())


def adopt(agent: Agent, parameters: Parameters) -> None:
    """Act by published parameters from now on."""
    for part, state in ((agent.acting_network, parameters["network"]), (agent.policy, parameters["policy"])):
        part.load_state_dict({key: torch.tensor(values) for key, values in state.items()})
