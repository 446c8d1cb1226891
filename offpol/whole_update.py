"""A whole update as one piece of the device's work: drawing, learning and prioritizing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from offpol.cuda_graphs import Recorder
from offpol.errors import ConfigError
from offpol.transfer import upload
from offpol.types import DeviceReplay, Replay

if TYPE_CHECKING:  # tensordict takes longer to import than torch
    from offpol.agent import Agent, Terms, Update
    from offpol.types import Batch


class WholeUpdate:
    """Does what `learn` does step by step in one call, compiled, or recorded as a CUDA graph, or both.

    The host draws random numbers and counts; all else is work of the device, which is sent one small array. What
    changes from update to update is either a number in that array or makes another variant of the work.
    """

    def __init__(self, agent: Agent, replay: DeviceReplay, *, compile: bool, cuda_graph: bool) -> None:
        self.agent, self.replay = agent, replay
        work: Any = torch.compile(self._work) if compile else self._work
        self._run = Recorder(work, agent.device) if cuda_graph else work

    def __call__(self, measure: bool) -> tuple[Batch, Update]:
        """Draw a batch, learn from it, set its priorities; the batch is overwritten by the next call."""
        agent = self.agent
        with self.replay.lock:
            chances = self.replay.chances(agent.batch_size)
            terms = agent.next_terms()
            inputs = upload(np.concatenate(([float(terms.updates), float(terms.gamma)], chances)), agent.device)
            batch, update = self._run(inputs, measure, _variant(terms))
        agent.reset_where_due()
        metrics = {name: number.clone() for name, number in update.metrics.items()}  # these are kept for a while
        return batch, update._replace(metrics=metrics, finite=update.finite.clone())

    def invalidate(self) -> None:
        """Record anew, where parameters or their optimizer's state were put elsewhere."""
        if isinstance(self._run, Recorder):
            self._run.invalidate()

    def _work(self, inputs: Tensor, measure: bool, variant: Terms) -> tuple[Batch, Update]:
        batch = self.replay.draw(inputs[2:])
        update = self.agent.learn_from(batch, _terms(inputs, variant), measure)
        self.replay.prioritize(batch.index, batch.generation, update.priority)
        return batch, update


def compile_or_record(agent: Agent, replay: Replay, *, compile: bool, cuda_graph: bool) -> None:
    """Have an agent's updates compiled or recorded, with the draws they learn from if the replay is on its device.

    Raises ConfigError where there is nothing that a CUDA graph could be recorded on.
    """
    on_device = hasattr(replay, "chances")
    if cuda_graph and agent.device.type != "cuda":
        raise ConfigError(
            f"run.cuda_graph needs a GPU, but run.device is {agent.device}: set run.device=cuda, or cuda_graph=false."
        )
    if cuda_graph and not on_device:
        raise ConfigError("run.cuda_graph records the draws of an update too, which takes replay=on_device.")
    if compile:
        # One for each window that is annealed through, measured or not; past the limit updates would silently be slow.
        torch._dynamo.config.recompile_limit = 64
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        agent._step = torch.compiler.disable(agent._step)  # type: ignore[method-assign]  # fused kernels as it is
    if cuda_graph and agent.acting.device.type == "cuda":
        agent.acting.record()
    if on_device and (compile or cuda_graph):
        agent.whole_update = WholeUpdate(agent, cast(DeviceReplay, replay), compile=compile, cuda_graph=cuda_graph)
    elif compile:
        compiled = torch.compile(agent.learn_from)

        def learn_from(batch: Batch, terms: Terms, measure: bool) -> Update:
            inputs = upload(np.array([terms.updates, terms.gamma]), agent.device)
            return compiled(batch, _terms(inputs, _variant(terms)), measure)  # numbers of Python would be compiled in

        agent.learn_from = learn_from  # type: ignore[method-assign]


def _variant(terms: Terms) -> Terms:
    """Keep the terms that take a graph of their own; blank those that are passed as numbers."""
    return terms._replace(updates=0, gamma=0.0)


def _terms(inputs: Tensor, variant: Terms) -> Terms:
    # Not by _replace, which the torch.compile of torch 2.11 cannot follow.
    return type(variant)(inputs[0].long(), inputs[1].float(), variant.window, variant.follow)
