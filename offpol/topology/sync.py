"""One loop, one thread: act, store, learn. Deterministic, and exactly resumable."""

from __future__ import annotations

from dataclasses import dataclass

from offpol.actor import Actor
from offpol.agent import Agent
from offpol.run import Run
from offpol.types import Replay, StateDict


@dataclass(frozen=True)
class Sync:
    """Alternate one step of all envs with the updates the replay ratio then asks for."""

    measure_every_updates: int

    def run(self, actor: Actor, agent: Agent, replay: Replay, run: Run) -> None:
        """Act and learn until `run` says it is done."""

        def save() -> StateDict:
            return {"actor": actor.state_dict(), "agent": agent.state_dict(), "replay": replay.state_dict()}

        while not run.done:
            with run.timed("act"):
                decision = actor.act(run.agent_steps, agent.updates)
            with run.timed("env"):
                rows, episodes = actor.step(decision)
            with run.timed("add"):
                replay.add(rows)
            run.count(rows, episodes)
            for _ in range(run.updates_due(agent.updates)):
                with run.timed("sample"):
                    batch = replay.sample(agent.batch_size)
                with run.timed("update"):
                    update = agent.update(batch, measure=agent.updates % self.measure_every_updates == 0)
                with run.timed("prioritize"):
                    replay.update_priorities(batch.index, batch.generation, update.priority)
                run.log_update(update.metrics)
            run.after_step(save)
