"""Acting beside learning in one process (Sebulba, Hessel et al. 2021; Cleanba, Huang et al. 2023).

An actor thread steps the envs with published copies of the policy while the learner updates. Which step is taken
by which policy is fixed in advance, so runs repeat bit for bit however fast either side is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from offpol import cpu
from offpol.actor_side import ActorInTurns, ActorThread
from offpol.agent import Agent
from offpol.learning import cut, learn
from offpol.output import tell
from offpol.ranges import check_positive
from offpol.run import Run
from offpol.types import Actors, Replay, StateDict


@dataclass(frozen=True)
class Threads:
    """Step k of all envs is taken by the policy as it was after round k - 1 - `max_policy_lag`.

    A round is one step of all envs and the updates the replay ratio then asks for. Lag 0 takes turns and gives the
    same run as `sync`, bit for bit; lag 1 is Cleanba's: acting step k + 1 overlaps the updates of round k. There is one
    actor thread: vector envs spread their emulators over threads of their own. It needs a core beside those of
    `run.torch_threads`: an update that shares one of its cores waits for the slower half, and the run for the update.
    Where there is none, the learner's thread takes those same steps itself, between the updates, and says so.

    Args:
        max_policy_lag: rounds the acting policy is behind the learner; exact, hence also the bound.
        deadline_s: seconds the learner waits for a step before it declares the actor hung.
        max_restarts: how often envs that raised are built anew, their streams cut, before the run gives up.
    """

    max_policy_lag: int
    deadline_s: float
    max_restarts: int

    def __post_init__(self) -> None:
        if self.max_policy_lag < 0:
            raise ValueError(f"max_policy_lag must be 0 (take turns) or more, but is {self.max_policy_lag}.")
        check_positive("deadline_s", self.deadline_s)
        if self.max_restarts < 0:
            raise ValueError(f"max_restarts must be 0 (end the run) or more, but is {self.max_restarts}.")

    @property
    def acts_while_learning(self) -> bool:
        """Whether both draw from this process's random numbers at once."""
        return self.max_policy_lag > 0

    def run(self, actors: Actors, agent: Agent, replay: Replay, run: Run) -> None:
        """Act and learn until `run` says it is done; raise what the actor thread raised, or TimeoutError."""
        side = ActorThread if self._has_a_core(agent) else ActorInTurns
        with side(
            actors, agent, run, lag=self.max_policy_lag, deadline_s=self.deadline_s, max_restarts=self.max_restarts
        ) as acting:

            def save() -> StateDict:
                rows = replay.state_dict(run.checkpoints.since)
                return {**acting.settle(), "agent": agent.state_dict(), "replay": rows}

            while not run.done:
                step = acting.next_step()
                if step.lost:
                    streams = range(len(step.rows.valid))
                    cut(replay, run, streams, len(streams), f"The envs raised, and were started anew:\n{step.lost}")
                with run.timed("add"):
                    replay.add(step.rows)
                run.count(step.rows, step.episodes)
                learn(agent, replay, run)
                run.after_step(save)
                if not run.done:
                    acting.publish()

    def _has_a_core(self, agent: Agent) -> bool:
        """Say whether acting can overlap learning; tell where that is for want of a core."""
        threads, cores = torch.get_num_threads(), cpu.cores()
        if self.max_policy_lag == 0:
            return False
        if agent.device.type != "cpu" or threads < cores:
            return True
        tell(
            f"offpol: run.torch_threads={threads} learns on all {cores} cores, so acting takes turns with it. To act "
            "beside it leave a core free, by fewer torch threads."
        )
        return False
