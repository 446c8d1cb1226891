"""Prioritized replay on the learner's device: rows, sums and draws stay there, and nothing waits for it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from offpol.memory.block_sums import BlockSums
from offpol.memory.device_ring import DeviceRing
from offpol.memory.kernels_numpy import Floats
from offpol.memory.ring_replay import RingReplay
from offpol.replay.prioritized import check_settings
from offpol.schedule import Schedule
from offpol.transfer import upload
from offpol.types import Batch, EnvSpec, Rows, StateDict


class OnDevice(RingReplay):
    """What `Prioritized` is, with everything that a learner reads on its device.

    Random numbers come from the host, by the same generator: the same seed draws the same windows as `Prioritized`,
    but for the rounding of sums, and a checkpoint of either can be loaded into the other. `sample` and
    `update_priorities` send some hundred bytes to the device and never read from it, so mistakes that only the device
    could see are told later: priorities that are not finite set nothing, and raise when the state is taken.

    Args:
        capacity, alpha, beta, new_priority, uniform_mix, draws, normaliser: as of `Prioritized`.
        epsilon: added to every priority; above 0, so that there always is something to draw.
        spec, window, seed: as of `Prioritized`.
        device: where everything lies.

    `lock` must be held by whoever calls `chances`, `draw` or `prioritize` by themselves.
    """

    ring: DeviceRing

    def __init__(
        self, capacity: int, alpha: float, beta: Schedule, epsilon: float, new_priority: Literal["max"],
        uniform_mix: float, draws: Literal["stratified", "iid"], normaliser: Literal["batch", "buffer"], *,
        spec: EnvSpec, window: int, seed: int, device: str = "cpu",
    ) -> None:  # fmt: skip
        check_settings(Schedule(alpha, alpha, 0, 0), beta, epsilon, new_priority, uniform_mix, draws, normaliser)
        if epsilon == 0:
            raise ValueError("epsilon=0 could leave nothing to draw, which is not looked for on a device: raise it.")
        self.alpha, self.beta, self.epsilon = alpha, beta, epsilon
        self.uniform_mix, self.draws, self.normaliser = uniform_mix, draws, normaliser
        self.device = torch.device(device)
        ring = DeviceRing(capacity, spec=spec, window=window, device=self.device)
        super().__init__(ring, seed, {"alpha": alpha, "epsilon": epsilon, "new_priority": "max"})
        self.sums = BlockSums(self.ring.size, self.device, smallest=normaliser == "buffer")
        # [1]: what torch.compile (2.13) writes to a float64 tensor without dimensions is lost.
        self._largest_mass = self._mass(torch.ones(1, dtype=torch.float64, device=self.device))
        self._dropped = torch.zeros((), dtype=torch.int64, device=self.device)
        self._refused = torch.zeros((), dtype=torch.bool, device=self.device)
        self._agent_steps = 0

    def add(self, rows: Rows, first_stream: int = 0) -> None:
        """Append one row to each of the streams first_stream .. first_stream + E - 1; see `Ring.add` for errors."""
        with self.lock:
            slots, drawable = self.ring.add(rows, first_stream)
            if len(slots):
                generation = np.where(drawable, self.ring.generation(slots), 0)
                index, generations = upload(np.stack([slots, generation]), self.device)
                self.ring.generations[index] = generations
                self.sums.set(index, torch.where(generations > 0, self._largest_mass, 0.0))
            self._agent_steps += int(np.count_nonzero(rows.valid))

    def sample(self, batch_size: int) -> Batch:
        """Draw windows [B] with replacement; RuntimeError where none is drawable. See `gather` for the layout."""
        with self.lock:
            return self.draw(upload(self.chances(batch_size), self.device))

    def update_priorities(self, index: Tensor, generation: Tensor, priority: Tensor) -> Tensor:
        """Set the absolute values of priorities [B]; of equal indices the last counts.

        Return how many were dropped (0-dim, on the device), because the slot was rewritten or its window cannot be
        drawn any more. Where a priority that counts is not finite, nothing is set.
        """
        with self.lock:
            return self.prioritize(index.to(self.device), generation.to(self.device), priority.to(self.device))

    # ------------------------------------------------------- the two halves of a draw, for CUDA graphs

    def chances(self, batch_size: int) -> Floats:
        """Draw the random numbers of one `draw` on the host, float64 [2 B + 2]; RuntimeError where none is drawable."""
        self.ring.require_drawable()
        share, slots = self.rng.random(batch_size), np.full(batch_size, -1.0)
        if self.draws == "stratified":
            share = (share + np.arange(batch_size, dtype=np.float64)) / batch_size
        if self.uniform_mix:
            uniform = self.rng.random(batch_size) < self.uniform_mix
            slots[uniform] = self.ring.draw(self.rng, int(np.count_nonzero(uniform)))
        return np.concatenate(([self.beta(self._agent_steps), self.ring.num_drawable], share, slots))

    def draw(self, chances: Tensor) -> Batch:
        """Draw the windows [B] that `chances` [2 B + 2] lead to; work of the device alone."""
        beta, number = chances[:2]
        share, slots = chances[2:].view(2, -1)
        starts = self.sums.find(share * self.sums.total)
        if self.uniform_mix:
            starts = torch.where(slots < 0, starts, slots.long())
        probability = self._probability(self.sums.masses[starts], number)
        lowest = probability.amin() if self.normaliser == "batch" else self._probability(self.sums.smallest, number)
        return self.ring.gather(starts, probability, (probability / lowest) ** -beta)  # N cancels

    def prioritize(self, index: Tensor, generation: Tensor, priority: Tensor) -> Tensor:
        """Set priorities [B] as `update_priorities` does; work of the device alone."""
        if not len(index):
            return torch.zeros_like(self._dropped)
        mass = self._mass(priority.abs().double())
        now = self.ring.generations.index_select(0, index)  # IndexError where an index is no slot
        current = (now == generation) & (now > 0)
        dropped = (~current).sum()
        fine = ((mass <= self.sums.limit) | ~current).all()  # False for NaN
        counts = current & fine
        highest = torch.where(counts, mass, 0.0).amax(0, keepdim=True)
        self._largest_mass.copy_(torch.maximum(self._largest_mass, highest))
        self.sums.set(index, _last(index, counts, mass, self.sums.masses[index]))
        self._refused |= ~fine
        self._dropped += dropped
        return dropped

    # ------------------------------------------------------------------------------------------ state

    @property
    def dropped_priorities(self) -> int:
        """How many priorities came too late, by now; waits for the device."""
        return int(self._dropped)

    def _own_state(self) -> StateDict:
        """Return what `Prioritized` does; ValueError where priorities were not finite since the replay was made."""
        if self._refused:
            raise ValueError("Priorities must be finite and not too large to be added up: did the loss diverge?")
        written = torch.from_numpy(self.ring.written).to(self.device)
        return {
            "masses": self.sums.masses[written].cpu(), "largest_mass": float(self._largest_mass),
            "agent_steps": self._agent_steps, "dropped": self.dropped_priorities, "alpha": self.alpha,
        }  # fmt: skip

    def _load_own_state(self, draws: StateDict) -> None:
        self.ring.load_drawable()
        masses = torch.zeros(self.ring.size, dtype=torch.float64)
        masses[torch.from_numpy(self.ring.written)] = draws["masses"]
        self.sums.load(masses)
        self._largest_mass.fill_(draws["largest_mass"])
        self._dropped.fill_(draws["dropped"])
        self._refused.fill_(False)
        self._agent_steps = draws["agent_steps"]

    def _mass(self, absolute: Tensor) -> Tensor:
        return (absolute + self.epsilon) ** self.alpha

    def _probability(self, mass: Tensor, number: Tensor) -> Tensor:
        share = mass / self.sums.total
        return (1 - self.uniform_mix) * share + self.uniform_mix / number if self.uniform_mix else share


def _last(index: Tensor, counts: Tensor, values: Tensor, otherwise: Tensor) -> Tensor:
    """Return for each index [B] the last value [B] given to that index that counts [B], or else `otherwise` [B].

    Equal indices get equal values, so that it does not matter which of them a device writes last.
    """
    same = (index.unsqueeze(1) == index) & counts
    order = torch.arange(len(index), device=index.device)
    last = torch.where(same, order, -1).amax(1)
    return torch.where(last >= 0, values[last.clamp_min(0)], otherwise)
