"""Sums over masses on any torch device, in two levels: draws and changes take a dozen kernels and never wait."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 1024  # masses in a block


class BlockSums:
    """Non-negative float64 masses [size], drawn in proportion; what `SumTree` is on the CPU.

    A tree of 8 children has 7 levels over a million masses, and every level is some kernels that wait for the one
    before: on a GPU that is all the time there is, while adding up 1024 numbers for each drawn window costs no more
    than adding 8. So there are two levels only: blocks of 1024 masses, and their sums. Reading grows with size / 1024
    (10,000 numbers for ten million masses), the number of kernels not at all.

    A block's sum is always added up anew from its masses, so nothing drifts. `cumsum` goes from left to right on
    the CPU, where the same masses therefore give the same sums, bit for bit; on a GPU it may round another way each
    time, so nothing here relies on running sums that never fall.
    """

    def __init__(self, size: int, device: torch.device, *, smallest: bool = False) -> None:
        blocks = -(-size // WIDTH)
        self.size, self.device = size, device
        self.limit = torch.finfo(torch.float64).max / (2 * size)  # of one mass: the sum must stay finite
        self._blocks = torch.zeros(blocks, WIDTH, dtype=torch.float64, device=device)
        self._sums = torch.zeros(blocks, dtype=torch.float64, device=device)
        self._least = torch.full((blocks,), torch.inf, dtype=torch.float64, device=device) if smallest else None

    @property
    def masses(self) -> Tensor:
        """All masses [size], a view: do not write to it."""
        return self._blocks.view(-1)[: self.size]

    @property
    def total(self) -> Tensor:
        """The sum of all masses (0-dim)."""
        return self._sums.cumsum(0)[-1]

    @property
    def smallest(self) -> Tensor:
        """The smallest positive mass (0-dim); infinite where there is none."""
        if self._least is None:
            raise ValueError("These sums do not keep their smallest mass: build them with smallest=True.")
        return self._least.amin()

    def set(self, index: Tensor, mass: Tensor) -> None:
        """Set masses [B], not negative and at most `limit`, at indices [B]; equal indices must bring equal masses."""
        self._blocks.view(-1)[index] = mass
        self._renew(index // WIDTH)

    def load(self, masses: Tensor) -> None:
        """Set all masses [size] at once."""
        self._blocks.view(-1)[: self.size] = masses.to(self.device)
        self._renew(torch.arange(len(self._sums), device=self.device))

    def find(self, target: Tensor) -> Tensor:
        """Find the indices [B] at which the running sum of masses exceeds the targets [B].

        A random target in [0, total) finds index i with the probability mass_i / total. What is found has a positive
        mass, unless all are zero: then it is index 0, as looking would mean to wait.
        """
        block, rest = _find(self._sums.unsqueeze(0), target)
        place, _ = _find(self._blocks[block], rest)
        return block * WIDTH + place

    def _renew(self, block: Tensor) -> None:
        masses = self._blocks[block]
        self._sums[block] = masses.cumsum(1)[:, -1]
        if self._least is not None:
            self._least[block] = torch.where(masses > 0, masses, torch.inf).amin(1)


def _find(masses: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first entry with mass where the running sum exceeds the target [B], each in its row of [B or 1, W].

    Also return the target [B] less what stands before that entry. Targets past the end count as just below it.
    """
    running = masses.cumsum(1)
    reach = torch.where(masses > 0, running, 0.0)
    end = reach.amax(1)
    target = torch.minimum(target, torch.nextafter(end, torch.zeros_like(end)))
    place = (reach > target.unsqueeze(1)).to(torch.uint8).argmax(1, keepdim=True)  # the first of equals
    before = (running - masses).expand(len(target), -1).gather(1, place)
    return place.squeeze(1), target - before.squeeze(1)
