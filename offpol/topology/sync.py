"""One loop, one thread: act, store, learn. Deterministic, and exactly resumable."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from offpol.agent import Agent
from offpol.deadline import Deadline, closing_envs
from offpol.guard import way_out
from offpol.learning import learn
from offpol.ranges import check_positive
from offpol.run import Run
from offpol.types import Actors, Replay, StateDict


@dataclass(frozen=True)
class Sync:
    """Alternate one step of all envs with the updates the replay ratio then asks for.

    Args:
        deadline_s: seconds that a step of all envs may take before the run is ended.
    """

    deadline_s: float

    def __post_init__(self) -> None:
        check_positive("deadline_s", self.deadline_s)

    def run(self, actors: Actors, agent: Agent, replay: Replay, run: Run) -> None:
        """Act and learn until `run` says it is done."""

        def hangs() -> str:
            return (
                f"{actors.spec.name} hangs at agent step {run.agent_steps:,}: it takes longer than "
                f"topology.deadline_s={self.deadline_s:g} s. Mend it, or raise the deadline; "
                f"{way_out(run.directory, run.saved_at)}"
            )

        with (
            closing(Deadline(self.deadline_s, hangs)) as deadline,
            closing_envs(actors.build(agent.values, state=run.resumed.get("actor")), self.deadline_s) as actor,
        ):

            def save() -> StateDict:
                rows = replay.state_dict(since=run.checkpoints.since)
                return {"actor": actor.state_dict(), "agent": agent.state_dict(), "replay": rows}

            while not run.done:
                with run.timed("act"):
                    decision = actor.act(run.agent_steps, agent.updates)
                with run.timed("env"), deadline:
                    rows, episodes = actor.step(decision)
                with run.timed("add"):
                    replay.add(rows)
                run.count(rows, episodes)
                learn(agent, replay, run)
                run.after_step(save)
