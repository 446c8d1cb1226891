"""What was measured since the last row of metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from offpol.types import StateDict


class Pending:
    """Numbers and distributions that the next row is going to sum up; nothing is copied to the host before."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[Tensor]] = defaultdict(list)
        self._values: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Keep numbers (0-dim, on any device), to be averaged."""
        for name, number in metrics.items():
            self._numbers[name].append(number.detach())

    def add_values(self, name: str, values: Tensor) -> None:
        """Keep numbers [N], whose distribution is wanted; NaN is none."""
        self._values[name].append(values.detach())

    def take_means(self) -> dict[str, float]:
        """Return the averages, and forget."""
        means = {name: float(_on_cpu(numbers).double().mean()) for name, numbers in self._numbers.items()}
        self._numbers.clear()
        return means

    def take_values(self) -> dict[str, Tensor]:
        """Return the distributions [N] on the CPU, and forget."""
        joined = {name: torch.cat([part.cpu() for part in parts]) for name, parts in self._values.items()}
        self._values.clear()
        counted = {name: values[~values.isnan()] for name, values in joined.items()}
        return {name: values for name, values in counted.items() if len(values)}

    def state_dict(self) -> StateDict:
        """Everything that is kept."""
        return {
            "numbers": {name: _on_cpu(numbers) for name, numbers in self._numbers.items()},
            "values": {name: torch.cat([part.cpu() for part in parts]) for name, parts in self._values.items()},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Keep what was kept then."""
        for name, numbers in state["numbers"].items():
            self._numbers[name] = list(numbers.unbind())
        for name, values in state["values"].items():
            self._values[name] = [values]


def _on_cpu(numbers: Sequence[Tensor]) -> Tensor:
    """Join numbers (0-dim) on the CPU [N]: where a run goes on, the first lie there and the rest on its device."""
    return torch.cat([torch.stack(list(some)).cpu() for _, some in groupby(numbers, lambda number: number.device)])
