"""The learner's side of every topology: the updates that are due now, and what becomes of streams that were lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from offpol.contracts.replays import check_batch
from offpol.types import Replay

if TYPE_CHECKING:
    from offpol.agent import Agent
    from offpol.run import Run
    from offpol.types import Batch


def learn(agent: Agent, replay: Replay, run: Run) -> None:
    """Do the updates that the replay ratio asks for; raise NotFinite where one goes wrong."""
    for _ in range(run.updates_due(agent.updates)):
        measure, before = agent.updates % run.config.measure_every_updates == 0, agent.updates
        if agent.whole_update is not None:
            with run.timed("update"):
                batch, update = agent.whole_update(measure)
            _look_at_the_first(batch, agent, replay, run)
            run.guard.watch(agent, batch, update.finite)
        else:
            with run.timed("sample"):
                batch = replay.sample(agent.batch_size)
            _look_at_the_first(batch, agent, replay, run)
            with run.timed("update"):
                update = agent.update(batch, measure)
            run.guard.watch(agent, batch, update.finite)
            try:
                with run.timed("prioritize"):
                    replay.update_priorities(batch.index, batch.generation, update.priority)
            except ValueError:  # priorities that are not finite, of an update on a GPU, which is looked at seldom
                run.guard.check()
                raise
        if measure:
            age = (before - batch.policy_version).float()
            run.log_values("sample_age_updates", age.masked_fill(~batch.valid, torch.nan).flatten())
        run.log_update(update.metrics)


def _look_at_the_first(batch: Batch, agent: Agent, replay: Replay, run: Run) -> None:
    if not run.windows_checked:
        check_batch(batch, replay, agent.batch_size, agent.window)
        run.windows_checked = True


def cut(replay: Replay, run: Run, streams: Sequence[int], rows_missing: int, why: str) -> None:
    """End streams whose env was lost, and count their rows: those that never came, and the newest of each stream.

    What followed the newest row is not known, so it can only be bootstrapped from.
    """
    for stream in streams:
        replay.cut(stream)
    run.lose(rows_missing + len(streams), why)
