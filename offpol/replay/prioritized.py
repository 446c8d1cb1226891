"""Prioritized replay: windows are drawn the more often, the more there was to learn from them last time."""

from dataclasses import asdict
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from offpol.memory.context_tree import ContextTree
from offpol.memory.kernels_numpy import Floats, Ints
from offpol.memory.ring import Ring
from offpol.memory.ring_replay import RingReplay
from offpol.memory.storage import storage_of
from offpol.memory.sum_tree import SumTree
from offpol.memory.windows import gather
from offpol.schedule import Schedule
from offpol.types import Batch, EnvSpec, Rows, StateDict


class Prioritized(RingReplay):
    """Draw windows in proportion to priority^alpha (Schaul et al. 2016, eq. 1 and section 3.4).

    P(i) = (1 - uniform_mix) m_i / sum_j m_j + uniform_mix / N with the mass m = (|priority| + epsilon)^alpha, where
    0^0 is 0, over the N windows that are drawable. The replay weight is (N P)^-beta over its maximum.
    One lock makes every method safe to call from several threads.

    Args:
        capacity: rows kept, of all streams together; each stream keeps its newest capacity // num_envs.
        alpha: how much priorities matter; 0 is uniform. A schedule, by agent steps added, moves in a hundred jumps, and
            all masses with it; it may not begin or end at 0, where priorities would be lost.
        beta: how much of the draw the replay weight corrects (1: all), by agent steps added.
        epsilon: added to every priority.
        new_priority: what a window counts as that is complete and has never got a priority. max: the highest priority
            so far, 1 at least. neighborhood: the mean mass of its neighbors in time that have got theirs (Reactor,
            Gruslys et al. 2018; of blocks of slots, see `ContextTree`, so the newest row's may be the oldest).
        uniform_mix: share of the draws that is uniform instead.
        draws: stratified takes one draw from each of B equal parts of the sum; iid draws independently.
        normaliser: weights are divided by the largest of the batch, or of all windows in the buffer.
        storage: memory, or memmap: the frames lie in a file, and memory holds of them what there is room for.
        directory: of that file; None for the run's.
        spec: what the envs deliver; `spec.num_envs` counts the streams of all actors.
        window: n, the transitions in a window.
        seed: of the draws.
        run_directory: the run's folder.

    Attributes:
        dropped_priorities: how many priorities came too late, by now.
    """

    def __init__(
        self, capacity: int, alpha: float | Schedule, beta: Schedule, epsilon: float,
        new_priority: Literal["max", "neighborhood"], uniform_mix: float, draws: Literal["stratified", "iid"],
        normaliser: Literal["batch", "buffer"], storage: Literal["memory", "memmap"], directory: str | None, *,
        spec: EnvSpec, window: int, seed: int, run_directory: str | None = None,
    ) -> None:  # fmt: skip
        self.alpha_schedule = alpha if isinstance(alpha, Schedule) else Schedule(alpha, alpha, 0, 0)
        check_settings(self.alpha_schedule, beta, epsilon, new_priority, uniform_mix, draws, normaliser)
        self.alpha, self.beta, self.epsilon = self.alpha_schedule(0), beta, epsilon
        self.new_priority = new_priority
        self.uniform_mix, self.draws, self.normaliser = uniform_mix, draws, normaliser
        ring = Ring(capacity, spec=spec, window=window, storage=storage_of(storage, directory, run_directory))
        moves = self.alpha_schedule.start != self.alpha_schedule.end
        saved_alpha = asdict(self.alpha_schedule) if moves else self.alpha
        super().__init__(ring, seed, {"alpha": saved_alpha, "epsilon": epsilon, "new_priority": new_priority})
        self._largest_mass = (1 + epsilon) ** self.alpha
        smallest = normaliser == "buffer"
        self.tree: SumTree | ContextTree = (
            SumTree(self.ring.size, smallest=smallest) if new_priority == "max"
            else ContextTree(self.ring.size, self._largest_mass, smallest=smallest)
        )  # fmt: skip
        self.dropped_priorities = 0
        self._agent_steps = 0

    def add(self, rows: Rows, first_stream: int = 0) -> None:
        """Append one row to each of the streams first_stream .. first_stream + E - 1; see `Ring.add` for errors."""
        with self.lock:
            slots, drawable = self.ring.add(rows, first_stream)
            first = np.nan if self.new_priority == "neighborhood" else self._largest_mass
            self.tree.set(slots, np.where(drawable, first, 0.0))
            self._agent_steps += int(np.count_nonzero(rows.valid))
            if self.alpha != self.alpha_schedule.end:
                self._move_alpha()

    def sample(self, batch_size: int) -> Batch:
        """Draw windows [B] with replacement; see `gather` for the layout of what comes.

        Raises:
            RuntimeError: where nothing is drawable, or every priority is 0.
        """
        with self.lock:
            self.ring.require_drawable()
            starts, mass = self._draw(batch_size)
            lowest = self.tree.smallest if self.normaliser == "buffer" else np.inf
            probability, weight = self.ring.kernels.replay_weights(
                mass, self.tree.total, self.uniform_mix, len(self), lowest, self.beta(self._agent_steps)
            )
            return gather(self.ring, starts, probability, weight)

    def update_priorities(self, index: Tensor, generation: Tensor, priority: Tensor) -> int:
        """Set the absolute values of priorities [B]; of equal indices the last counts.

        Return how many were dropped, because the slot was rewritten or its window cannot be drawn any more.

        Raises:
            ValueError: where a priority that counts is not finite; nothing is set.
            IndexError: where an index is no slot.
        """
        drawn, written, value = index.numpy(force=True), generation.numpy(force=True), priority.numpy(force=True)
        with self.lock:
            current, largest = self.tree.prioritize(self.ring, drawn, written, value, self.epsilon, self.alpha)
            self._largest_mass = max(self._largest_mass, largest)
            dropped = len(drawn) - current
            self.dropped_priorities += dropped
            return dropped

    def _draw(self, number: int) -> tuple[Ints, Floats]:
        """Draw windows; return their slots [B] and masses [B]."""
        starts, mass = self.tree.draw(self.rng, number, self.draws == "stratified")
        if self.uniform_mix:
            uniform = self.rng.random(number) < self.uniform_mix
            starts[uniform] = self.ring.draw(self.rng, int(np.count_nonzero(uniform)))
            mass = self.tree.at(starts)
        return starts, mass

    def _own_state(self) -> StateDict:
        return {
            "masses": torch.from_numpy(self.tree.masses[self.ring.written]), "largest_mass": self._largest_mass,
            "agent_steps": self._agent_steps, "dropped": self.dropped_priorities, "alpha": self.alpha,
        }  # fmt: skip

    def _load_own_state(self, draws: StateDict) -> None:
        masses = np.zeros(self.ring.size)
        masses[self.ring.written] = draws["masses"].numpy()
        self.tree.load(masses)
        self._set_alpha(draws["alpha"], draws["largest_mass"])
        self._agent_steps, self.dropped_priorities = draws["agent_steps"], draws["dropped"]

    def _move_alpha(self) -> None:
        """Raise all masses to the alpha that is due now, unless it moved by less than a hundredth of its way."""
        schedule, due = self.alpha_schedule, self.alpha_schedule(self._agent_steps)
        if due != schedule.end and abs(due - self.alpha) < abs(schedule.end - schedule.start) / 100:
            return
        self.tree.load(self.tree.masses ** (due / self.alpha))
        self._set_alpha(due, self._largest_mass ** (due / self.alpha))

    def _set_alpha(self, alpha: float, largest_mass: float) -> None:
        self.alpha, self._largest_mass = alpha, largest_mass
        if isinstance(self.tree, ContextTree):
            self.tree.prior = (1 + self.epsilon) ** alpha


def check_settings(
    alpha: Schedule, beta: Schedule, epsilon: float, new_priority: str, uniform_mix: float, draws: str, normaliser: str
) -> None:
    numbers = {
        "alpha": alpha.start, "alpha.end": alpha.end, "beta.start": beta.start, "beta.end": beta.end, "epsilon": epsilon
    }  # fmt: skip
    for name, value in numbers.items():
        if not 0 <= value < np.inf:
            raise ValueError(f"{name}={value} must be 0 or more, and finite.")
    if not 0 <= uniform_mix <= 1:
        raise ValueError(f"uniform_mix={uniform_mix} is a share: set it from 0 to 1.")
    for name, choice, options in (
        ("new_priority", new_priority, ("max", "neighborhood")), ("draws", draws, ("stratified", "iid")),
        ("normaliser", normaliser, ("batch", "buffer")),
    ):  # fmt: skip
        if choice not in options:
            raise ValueError(f"{name}={choice} must be one of {', '.join(options)}.")
    if alpha.start != alpha.end and not alpha.start * alpha.end:
        raise ValueError(
            f"alpha cannot go from {alpha.start} to {alpha.end}: at 0 all priorities look alike and are lost. Begin or "
            "end it just above."
        )
    if new_priority == "neighborhood" and epsilon == 0:
        raise ValueError("epsilon=0 lets a priority be 0, which new_priority=neighborhood takes for none: raise it.")
    if uniform_mix and normaliser == "buffer" and epsilon == 0:
        raise ValueError(
            "epsilon=0 lets a window have no priority, whose weight is then larger than the buffer's maximum when "
            "uniform_mix draws it: set epsilon above 0 or normaliser to batch."
        )
