"""One loop, one thread: act, store, learn. Deterministic, and exactly resumable."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from offpol.agent import Agent
from offpol.learning import learn
from offpol.run import Run
from offpol.types import Actors, Replay, StateDict


@dataclass(frozen=True)
class Sync:
    """Alternate one step of all envs with the updates the replay ratio then asks for."""

    def run(self, actors: Actors, agent: Agent, replay: Replay, run: Run) -> None:
        """Act and learn until `run` says it is done."""
        with closing(actors.build(agent.values)) as actor:
            if run.resumed:
                actor.load_state_dict(run.resumed["actor"])

            def save() -> StateDict:
                rows = replay.state_dict(since=run.checkpoints.since)
                return {"actor": actor.state_dict(), "agent": agent.state_dict(), "replay": rows}

            while not run.done:
                with run.timed("act"):
                    decision = actor.act(run.agent_steps, agent.updates)
                with run.timed("env"):
                    rows, episodes = actor.step(decision)
                with run.timed("add"):
                    replay.add(rows)
                run.count(rows, episodes)
                learn(agent, replay, run)
                run.after_step(save)
