"""What stops a run that went wrong before it spoils a checkpoint, and says how to go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from offpol.errors import DISK_FULL, RunError
from offpol.record.run_directory import resume_command
from offpol.types import EnvStep, StateDict

if TYPE_CHECKING:  # tensordict takes longer to import than torch
    from offpol.agent import Agent
    from offpol.types import Batch

EVIDENCE = "offending_batch.pt"


class NotFinite(RunError):
    """NaN or infinity turned up; `evidence` is what it turned up in, fit for torch.save."""

    def __init__(self, what: str, evidence: StateDict) -> None:
        super().__init__(what)
        self.evidence = evidence

    def __reduce__(self) -> tuple[type[NotFinite], tuple[str, StateDict]]:  # it may come from another process
        return NotFinite, (str(self), self.evidence)


class Guard:
    """Notices updates and parameters that are not finite.

    On the CPU each update is checked at once. On other devices that would wait for the device, so there `check`
    finds it, and the evidence is the latest batch instead of the guilty one. Beside the batch it holds the agent, whose
    parameters an update that is not finite leaves as they were.
    """

    def __init__(self) -> None:
        self._latest: tuple[Agent, Batch] | None = None
        self._finite: Tensor | None = None

    def watch(self, agent: Agent, batch: Batch, finite: Tensor) -> None:
        """Take note of an update on a batch; `finite` (0-dim bool) is the agent's word on it. Raises NotFinite."""
        self._latest = agent, batch
        if finite.device.type != "cpu":
            self._finite = finite if self._finite is None else self._finite & finite
        elif not finite:
            what = f"The loss, its gradient or the priorities of update {agent.updates} are not finite"
            raise _found(what, agent, batch)

    def check(self) -> None:
        """Raise NotFinite where an update since the last check, or a parameter as it is now, is not finite."""
        if self._latest is None:
            return
        agent, batch = self._latest
        if self._finite is not None and not self._finite:
            raise _found(f"The loss of an update up to number {agent.updates} is not finite", agent, batch)
        self._finite = None
        if not all(parameter.detach().isfinite().all() for parameter in agent.parameters):
            raise _found(f"A parameter is not finite after update {agent.updates}", agent, batch)


def _found(what: str, agent: Agent, batch: Batch) -> NotFinite:
    evidence = {"updates": agent.updates, "batch": batch.to_dict(), "agent": agent.state_dict()}
    return NotFinite(what, tree_map_only(Tensor, Tensor.cpu, evidence))


def require_finite(name: str, outcome: EnvStep, action: np.ndarray, obs_before: np.ndarray) -> None:
    """Raise NotFinite, naming the env, for rewards or observations that no agent can learn from."""
    arrays = {**outcome._asdict(), "action": action, "obs_before": obs_before}
    _require(name, "an observation", outcome.obs, arrays)
    _require(name, "a reward", outcome.reward, arrays)


def require_finite_start(name: str, obs: np.ndarray) -> None:
    """Do so for the first observations [E, ...] of all."""
    _require(name, "a first observation", obs, {"obs": obs})


def _require(name: str, what: str, values: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
    if values.dtype.kind != "f" or (finite := np.isfinite(values)).all():
        return
    stream = int(np.argwhere(~finite)[0, 0])
    evidence = {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}
    raise NotFinite(f"{name} delivered {what} that is not finite, in env {stream}", {"env_step": evidence})


def way_out(directory: Path, saved_at: int | None) -> str:
    """Say how a run that ended by accident goes on from its newest checkpoint, at `saved_at` agent steps."""
    if saved_at is None:
        return "there is no checkpoint yet, so the run has to start again"
    return f"the checkpoint at {saved_at:,} agent steps is whole: {resume_command(directory)}"


def explained(error: Exception, directory: Path, agent_steps: int, saved_at: int | None) -> Exception:
    """Turn what ended a run into one sentence where that is possible; save the evidence there is.

    Args:
        error: what was raised.
        directory: of the run.
        agent_steps: where it happened.
        saved_at: agent steps at the newest checkpoint; None where there is none.
    """
    go_on = way_out(directory, saved_at)
    if isinstance(error, NotFinite):
        torch.save({"what": str(error), "agent_steps": agent_steps, **error.evidence}, directory / EVIDENCE)
        return RunError(
            f"{error}, at agent step {agent_steps:,}. What it was found in is saved as {directory / EVIDENCE}; once "
            f"the cause is mended, {go_on}"
        )
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return RunError(
            f"{error.filename or directory} cannot be written at agent step {agent_steps:,}: {error.strerror}. Make "
            f"room; {go_on}"
        )
    error.add_note(f"The run ended at agent step {agent_steps:,}; {go_on}")
    return error
