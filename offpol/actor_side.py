"""The actor's side of `topology=threads`: one step of all envs for each policy that the learner publishes."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import traceback
from collections import deque
from functools import partial
from typing import NamedTuple

import torch

from offpol.acting import copy_parameters
from offpol.actor import Episode, Values
from offpol.agent import Agent
from offpol.deadline import LONGEST_PERIOD_S, Deadline, Waited, answering, close_or_leave, stack_of, to_start_s
from offpol.errors import RunError
from offpol.guard import way_out
from offpol.run import Run
from offpol.types import Actors, Rows, StateDict

STARTING = "starting the envs anew"


class Published(NamedTuple):
    """A policy handed to the actor: one token lets it take one step."""

    values: Values
    updates: int
    ready: torch.cuda.Event | None  # on a GPU: when the copy is done


class Step(NamedTuple):
    """What the actor thread hands to the learner."""

    rows: Rows
    episodes: list[Episode]
    lost: str | None  # what the envs died of, where they had to be started anew before this step


class ActorInTurns:
    """The actor's side in the learner's own thread: steps are taken when the learner asks for them.

    `lag` policies, and one more, are with it from the start; each that is published lets it take one step. For
    `deadline_s` and `max_restarts` see `offpol.topology.threads.Threads`.
    """

    def __init__(
        self, actors: Actors, agent: Agent, run: Run, *, lag: int, deadline_s: float, max_restarts: int
    ) -> None:
        saved = run.resumed.get("topology", {"settled": [], "restarts": 0})
        self.actors, self.agent, self.restarts = actors, agent, saved["restarts"]
        self.actor = actors.build(agent.values, self.restarts, run.resumed.get("actor"))
        self.run, self.lag, self.deadline_s, self.max_restarts = run, lag, deadline_s, max_restarts
        self.clock = run.timed
        copies = self.lag + 2  # one more than can be in use
        self.slots = [agent.acting.copy_of(agent.acting_network) for _ in range(copies)]
        self.published = self.begun = 0
        self.policies: queue.SimpleQueue[Published | None] = queue.SimpleQueue()
        self.settled: deque[Step] = deque(_loaded(step) for step in saved["settled"])
        self.agent_steps = run.agent_steps + sum(int(step.rows.valid.sum()) for step in self.settled)
        self.begin("starting")
        run.gauges["machine/queue_depth"] = self.depth
        for _ in range(self.lag + 1 - len(self.settled)):
            self.publish()
        self.start()

    def start(self) -> None:
        """Watch from now on: where the envs take too long in this thread, the process ends."""

        def hangs() -> str:
            return f"{self.hangs()}; {way_out(self.run.directory, self.run.saved_at)}"

        self.deadline = Deadline(self.deadline_s, hangs)

    def begin(self, doing: str) -> None:
        """Note what the actor is at, for those who wait for it."""
        self.doing = doing
        self.begun += 1

    def depth(self) -> int:
        """Count the steps that are taken and not yet learned from."""
        return len(self.settled)

    def publish(self) -> None:
        """Copy the learner's parameters for the actor's next step but `lag`."""
        slot = self.slots[self.published % len(self.slots)]
        self.published += 1
        copy_parameters(self.agent.acting_network, slot)
        ready = None
        if self.agent.acting.device.type == "cuda":
            ready = torch.cuda.Event()
            ready.record(torch.cuda.current_stream(self.agent.acting.device))
        self.policies.put(Published(partial(self.agent.values, network=slot), self.agent.updates, ready))

    def next_step(self) -> Step:
        return self.settled.popleft() if self.settled else self._receive()

    def settle(self) -> StateDict:
        """Wait until the actor has used up its policies; return it, and the steps that were not yet learned from."""
        while len(self.settled) < self.lag:
            self.settled.append(self._receive())
        topology = {"settled": [_saved(step) for step in self.settled], "restarts": self.restarts}
        return {"actor": self.actor.state_dict(), "topology": topology}

    def __enter__(self) -> ActorInTurns:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, at: object) -> None:
        self.stop(failed=kind is not None)

    def stop(self, failed: bool) -> None:
        """Close the envs; after an error, which is to be told whatever they do, as far as they answer."""
        self.begin("closing the envs")
        self.deadline.close()
        if failed:
            close_or_leave(self.actor)
            return
        with answering(self.deadline_s, "close"):
            self.actor.close()

    def hangs(self) -> str:
        return (
            f"The learner waited {self.deadline_s:g} s for rows: the actor hangs in '{self.doing}' at agent "
            f"step {self.agent_steps}, with {self.policies.qsize()} policies waiting for it. Raise topology.deadline_s "
            "if a step may take that long"
        )

    def died(self) -> str:
        return (
            f"The actor died in '{self.doing}' at agent step {self.agent_steps}, after {self.restarts} restarts; the "
            "learner was waiting for its rows."
        )

    def _receive(self) -> Step:
        policy = self.policies.get_nowait()
        assert policy is not None
        try:
            return self._act(policy)
        except RunError:
            raise  # says all there is to say
        except Exception as error:
            raise RuntimeError(self.died()) from error

    def _act(self, policy: Published) -> Step:
        """Take one step; where the envs raise, start them anew as often as is allowed."""
        lost = None
        while True:
            try:
                self.begin("acting")
                with self.clock("act"):
                    decision = self.actor.act(self.agent_steps, policy.updates, policy.values)
                self.begin("stepping the envs")
                with self.clock("env"), self.deadline:
                    rows, episodes = self.actor.step(decision)
                self.agent_steps += int(rows.valid.sum())
                return Step(rows, episodes, lost)
            except RunError:
                raise
            except Exception as error:
                if self.restarts >= self.max_restarts:
                    raise
                lost = "".join(traceback.format_exception(error))
                self._restart()

    def _restart(self) -> None:
        self.begin(STARTING)
        self.restarts += 1
        close_or_leave(self.actor)
        self.actor = self.actors.build(self.agent.values, restarts=self.restarts)


class ActorThread(ActorInTurns):
    """The same in a thread, and two queues between it and the learner: policies one way, rows the other."""

    def start(self) -> None:
        self.steps: queue.SimpleQueue[Step | BaseException] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="actor", daemon=True)
        self.deadline = Deadline(math.inf, str)  # none: the learner waits by its own
        self.thread.start()

    def depth(self) -> int:
        return self.steps.qsize() + len(self.settled)

    def stop(self, failed: bool) -> None:
        """End the thread; one that hangs is left behind, and ends with the process."""
        self.policies.put(None)
        self.thread.join(timeout=min(self.deadline_s, 5.0))
        if not self.thread.is_alive():
            super().stop(failed)

    def _receive(self) -> Step:
        try:
            with self.clock("wait"):
                step = self._wait()
        except queue.Empty:
            where = stack_of(self.thread.ident)
            raise TimeoutError(f"{self.hangs()}. The actor stands here:\n{where.rstrip()}") from None
        if isinstance(step, RunError):
            raise step
        if isinstance(step, BaseException):
            raise RuntimeError(self.died()) from step
        return step

    def _wait(self) -> Step | BaseException:
        """Return what comes next; raise queue.Empty where the actor is at one thing for longer than that may take."""
        waited = Waited()
        while True:
            patience = self.deadline_s
            patience = to_start_s(patience) if self.doing == STARTING else patience
            period = min(LONGEST_PERIOD_S, patience / 4)
            try:
                return self.steps.get(timeout=period)
            except queue.Empty:
                if waited.look(self.begun, period) >= patience:
                    raise

    def _run(self) -> None:
        # Of this thread alone: a second team of OpenMP, with more threads than cores, puts all threads to sleep at
        # every barrier, the learner's too.
        torch.set_num_threads(1)
        device = self.agent.acting.device
        try:
            with _stream_aside(device):
                while (policy := self._next_policy()) is not None:
                    if policy.ready is not None:
                        torch.cuda.current_stream(device).wait_event(policy.ready)
                    self.steps.put(self._act(policy))
        except BaseException as error:
            self.steps.put(error)

    def _next_policy(self) -> Published | None:
        self.begin("waiting for a policy")
        with self.clock("actor_wait"):
            return self.policies.get()


def _stream_aside(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Give this thread a stream of its own on a GPU: on the learner's, an answer would wait for all queued updates."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device, priority=-1))


def _saved(step: Step) -> StateDict:
    rows = {name: torch.from_numpy(values.copy()) for name, values in step.rows._asdict().items()}
    return {"rows": rows, "episodes": [tuple(episode) for episode in step.episodes], "lost": step.lost}


def _loaded(state: StateDict) -> Step:
    rows = Rows(**{name: values.numpy() for name, values in state["rows"].items()})
    return Step(rows, [Episode(*episode) for episode in state["episodes"]], state["lost"])
