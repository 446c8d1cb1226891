"""The learner's side of every topology: the updates that are due now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offpol.types import Replay

if TYPE_CHECKING:
    from offpol.agent import Agent
    from offpol.run import Run


def learn(agent: Agent, replay: Replay, run: Run, measure_every_updates: int) -> None:
    """Do the updates that the replay ratio asks for; raise NotFinite where one goes wrong."""
    for _ in range(run.updates_due(agent.updates)):
        with run.timed("sample"):
            batch = replay.sample(agent.batch_size)
        with run.timed("update"):
            update = agent.update(batch, measure=agent.updates % measure_every_updates == 0)
        run.guard.watch(agent, batch, update.finite)
        with run.timed("prioritize"):
            replay.update_priorities(batch.index, batch.generation, update.priority)
        run.log_update(update.metrics)
