"""Acting in Ray processes on one or many machines; replay and learner stay together (Ape-X, Horgan et al. 2018).

A worker is asked for a chunk of steps, with a reference to the newest parameters, as soon as its last chunk was
received. So neither side runs ahead: workers wait for the learner's word, and the replay ratio makes the learner wait
for their rows. Chunks are taken as they come, so runs do not repeat.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from offpol.actor import Episode
from offpol.agent import Agent
from offpol.deadline import to_start_s
from offpol.errors import RunError
from offpol.guard import way_out
from offpol.learning import cut, learn
from offpol.ranges import check_positive
from offpol.ray_cluster import cluster, require_ray
from offpol.remote_worker import Chunk, Worker, num_bytes, published
from offpol.run import Run
from offpol.types import Actors, EnvSpec, Replay, Rows, StateDict

POLL_S = 0.5  # between two looks at deadlines and signals


@dataclass(frozen=True)
class RayWorkers:
    """Share the streams out among `num_workers` processes.

    Args:
        num_workers: W; each steps run.num_envs / W envs, and takes one core.
        address: of a Ray cluster to join; None starts one on this machine, for this run alone.
        chunk_steps: steps of a worker's envs that are sent together, taken by one policy.
        max_policy_lag: rounds (W chunks) that may be learned from between asking for a chunk and learning from it;
            the learner waits for a straggler rather than go on.
        publish_every_updates: parameters are sent out at most so often.
        deadline_s: seconds the learner waits for rows before it declares workers hung.
        max_restarts: lost workers (killed, hung, or raising) that are replaced before the run gives up.
    """

    num_workers: int
    address: str | None
    chunk_steps: int
    max_policy_lag: int
    publish_every_updates: int
    deadline_s: float
    max_restarts: int

    def __post_init__(self) -> None:
        for name in ("num_workers", "chunk_steps", "max_policy_lag", "publish_every_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        check_positive("deadline_s", self.deadline_s)
        if self.max_restarts < 0:
            raise ValueError(f"max_restarts must be 0 (end the run) or more, but is {self.max_restarts}.")
        require_ray()

    def run(self, actors: Actors, agent: Agent, replay: Replay, run: Run) -> None:
        """Act and learn until `run` says it is done; raise what could not be replaced, naming it."""
        spec = actors.spec
        if run.resumed:
            missing = run.resumed["topology"].get("rows_missing", 0)
            cut(replay, run, range(spec.num_envs), missing, "The envs start anew where a run with Ray workers goes on.")

        def go_on() -> str:
            return way_out(run.directory, run.saved_at)

        with cluster(self.address, self.num_workers, _store_bytes(spec, agent, self), go_on) as ray:
            crew = _Crew(ray, actors, agent, replay, run, self)

            def save() -> StateDict:
                rows = replay.state_dict(since=run.checkpoints.since)
                return {"topology": crew.state_dict(), "agent": agent.state_dict(), "replay": rows}

            try:
                while not run.done:
                    with run.timed("wait"):
                        received = crew.receive()
                    for rows, episodes, first_stream in received:
                        crew.rows_in_hand -= len(rows.valid)
                        with run.timed("add"):
                            replay.add(rows, first_stream)
                        run.count(rows, episodes)
                        learn(agent, replay, run)
                        run.after_step(save)
                        if run.done:
                            break
                    if run.signal is not None and not run.done:  # asked to end while it waited
                        run.after_step(save)
            finally:
                crew.stop()


class _Asked(NamedTuple):
    """What a worker is at: a chunk, or starting."""

    worker: int
    since: float  # seconds, of the monotonic clock
    received: int | None  # chunks that the learner had received when it asked for this one; None: it is starting
    parameter_bytes: int  # of parameters that were sent for it

    def patience_s(self, deadline_s: float) -> float:
        return to_start_s(deadline_s) if self.received is None else deadline_s


class _Crew:
    """The workers, and what they were asked for."""

    def __init__(self, ray: Any, actors: Actors, agent: Agent, replay: Replay, run: Run, settings: RayWorkers) -> None:
        self.ray, self.actors, self.agent, self.replay, self.run = ray, actors, agent, replay, run
        self.settings, self.share = settings, actors.spec.num_envs // settings.num_workers
        saved = run.resumed.get("topology", {"restarts": [-1] * settings.num_workers})
        self.restarts = [restarts + 1 for restarts in saved["restarts"]]  # by worker; makes its random numbers
        self.losses = self.received = self.rows_in_hand = 0
        self.has = [-1] * settings.num_workers  # by worker: the updates of the parameters that it was sent last
        self.published_at, self.parameters, self.parameter_bytes = -1, None, num_bytes(published(agent))
        self.handles: dict[int, Any] = {}
        self.asked: dict[Any, _Asked] = {}  # by object reference, oldest first
        run.gauges["machine/queue_depth"] = self._queue_depth
        for worker in range(settings.num_workers):
            self._hire(worker)

    def receive(self) -> list[tuple[Rows, list[Episode], int]]:
        """Wait for a chunk, ask its worker for the next; return its steps, with the stream that each begins at.

        Lost workers are replaced meanwhile. Nothing is returned where the run was asked to end.
        """
        while self.run.signal is None:
            ready, _ = self.ray.wait(self._wanted(), num_returns=1, timeout=POLL_S)
            self._replace_overdue()
            if not ready or ready[0] not in self.asked:
                continue
            asked = self.asked.pop(ready[0])
            try:
                chunk: Chunk | None = self.ray.get(ready[0])
            except self.ray.exceptions.RayError as error:
                self._replace(asked, error)
                continue
            if chunk is not None:
                self.received += 1
            self._ask(asked.worker)
            if chunk is not None:
                self._note(chunk, asked.parameter_bytes)
                self.rows_in_hand = chunk.rows.valid.size
                return _steps(chunk, asked.worker * self.share)
        return []

    def _wanted(self) -> list[Any]:
        """List what may be received next: not the chunks that are too far ahead of the oldest."""
        chunks = [reference for reference, asked in self.asked.items() if asked.received is not None]
        behind = self.received - (self.asked[chunks[0]].received or 0) if chunks else 0
        if behind < self.settings.max_policy_lag * self.settings.num_workers:
            return list(self.asked)
        return [chunks[0], *(reference for reference, asked in self.asked.items() if asked.received is None)]

    def _hire(self, worker: int) -> None:
        settings = self.settings
        remote = self.ray.remote(num_cpus=1, max_restarts=0)(Worker)
        handle = remote.remote(self.actors, worker, settings.num_workers, self.restarts[worker], settings.chunk_steps)
        self.handles[worker] = handle
        self.has[worker] = -1
        self.asked[handle.start.remote()] = _Asked(worker, time.monotonic(), None, 0)

    def _ask(self, worker: int) -> None:
        """Ask for a chunk by the newest parameters."""
        updates = self.agent.updates
        if self.parameters is None or updates - self.published_at >= self.settings.publish_every_updates:
            self.parameters, self.published_at = self.ray.put(published(self.agent)), updates
        reference = self.handles[worker].act.remote(self.parameters, self.published_at, self.run.agent_steps)
        sent = 0 if self.has[worker] == self.published_at else self.parameter_bytes
        self.has[worker] = self.published_at
        self.asked[reference] = _Asked(worker, time.monotonic(), self.received, sent)

    def _replace_overdue(self) -> None:
        """Replace workers that have been at something for longer than the deadline."""
        now, deadline_s = time.monotonic(), self.settings.deadline_s
        late = [r for r, asked in self.asked.items() if now - asked.since > asked.patience_s(deadline_s)]
        # What is done, though it is still on another machine, is not late.
        done = self.ray.wait(late, num_returns=len(late), timeout=0, fetch_local=False)[0] if late else []
        for reference in set(late) - set(done):
            asked = self.asked.pop(reference)
            doing = "did not start" if asked.received is None else "gave no rows"
            self._replace(
                asked, f"{doing} within {asked.patience_s(deadline_s):g} s (topology.deadline_s={deadline_s:g})"
            )

    def _replace(self, asked: _Asked, error: Any) -> None:
        """Put another worker in the place of one that was lost by an error of Ray's or a reason, or give up."""
        worker, cause = asked.worker, getattr(error, "cause", None)
        if isinstance(cause, RunError):
            raise cause  # says all there is to say
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(self.handles.pop(worker))
        first = worker * self.share
        streams = range(first, first + self.share)
        what = str(error).partition(" Some common causes include")[0].rstrip()
        why = f"Ray worker {worker} of {self.settings.num_workers} (streams {first} to {streams[-1]}) was lost: {what}"
        self.losses += 1
        self.restarts[worker] += 1
        acted = asked.received is not None
        cut(self.replay, self.run, streams if acted else (), acted * self.settings.chunk_steps * self.share, why)
        if self.losses > self.settings.max_restarts:
            raise RuntimeError(
                f"{why}\nThe learner was waiting for its chunk, and for {len(self.asked)} of others. This was loss "
                f"number {self.losses}, and topology.max_restarts is {self.settings.max_restarts}."
            )
        self._hire(worker)

    def _note(self, chunk: Chunk, parameter_bytes: int) -> None:
        workers = self.settings.num_workers
        self.run.timed("worker_act").seconds += chunk.acted_s / workers
        self.run.timed("worker_wait").seconds += chunk.waited_s / workers
        per_step = (chunk.num_bytes + parameter_bytes) / max(1, int(np.count_nonzero(chunk.rows.valid)))
        self.run.gauges["machine/wire_bytes_per_agent_step"] = lambda: per_step

    def _queue_depth(self) -> int:
        return len(self.ray.wait(list(self.asked), num_returns=len(self.asked), timeout=0)[0])

    def state_dict(self) -> StateDict:
        """What goes on; `rows_missing` of those that are asked for never come, if it goes on from here."""
        acting = sum(asked.received is not None for asked in self.asked.values())
        missing = self.rows_in_hand + acting * self.settings.chunk_steps * self.share
        return {"restarts": list(self.restarts), "rows_missing": missing}

    def stop(self) -> None:
        """End all workers."""
        for handle in self.handles.values():
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.kill(handle)


def _steps(chunk: Chunk, first_stream: int) -> list[tuple[Rows, list[Episode], int]]:
    episodes: list[list[Episode]] = [[] for _ in chunk.rows.valid]
    for step, episode in chunk.episodes:
        episodes[step].append(episode._replace(stream=first_stream + episode.stream))
    return [(Rows(*step), episodes[i], first_stream) for i, step in enumerate(zip(*chunk.rows, strict=True))]


def _store_bytes(spec: EnvSpec, agent: Agent, settings: RayWorkers) -> int:
    """Return how much room objects on their way need: two chunks of each worker, and a few sets of parameters."""
    row = int(np.prod(spec.frame_shape)) * spec.dtype.itemsize + 32
    parameters = num_bytes(published(agent))
    return 2 * spec.num_envs * settings.chunk_steps * row + 16 * parameters
