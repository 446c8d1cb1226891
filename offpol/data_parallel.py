"""One agent in several processes: each computes the gradient of its share of every batch (torchrun)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils._pytree import tree_map_only

from offpol.agent import Agent, Update
from offpol.processes import PATIENCE
from offpol.transfer import upload
from offpol.types import Batch

STOP, GO, BEGIN = 0, 1, 2
Layout = list[tuple[str, torch.Size, torch.dtype]]


class DataParallelAgent(Agent):
    """The first process acts, draws batches and writes; it calls `update`. The others `serve`.

    A batch is drawn from the one replay and cut into equal shares. Losses, gradients and what policies adapt to are
    means over the whole batch, so every process takes the step that one process would take with all of it. Metrics
    are of the first process's share.
    """

    control: Any = None  # the group that the next update is announced in
    layout: Layout = []  # noqa: RUF012 - how a share is packed; set at the first update

    def update(self, batch: Batch, measure: bool = False) -> Update:
        """Take one optimizer step on a batch [B], together with the processes that serve."""
        shares = [_ordered(share) for share in batch.split(len(batch) // distributed.get_world_size())]
        if not self.layout:
            self._announce(BEGIN)
            self.layout = [(name, values.shape, values.dtype) for name, values in shares[0].items()]
            state = tree_map_only(Tensor, Tensor.cpu, self.state_dict())  # each loads it onto a device of its own
            distributed.broadcast_object_list([self.layout, state], device=self.device)
        else:
            self._announce(GO)
        packed = [upload(_pack(share), self.device) for share in shares]
        mine = torch.empty_like(packed[0])
        distributed.scatter(mine, packed)
        return self._together(_unpacked(mine, self.layout), measure)

    def serve(self) -> None:
        """Compute shares of updates until the first process is done."""
        while (command := self._announce()) != STOP:
            if command == BEGIN:
                received: list[Any] = [None, None]
                distributed.broadcast_object_list(received, device=self.device)
                self.layout, state = received
                self.load_state_dict(state)
            size = sum(shape.numel() * dtype.itemsize for _, shape, dtype in self.layout)
            mine = torch.empty(size, dtype=torch.uint8, device=self.device)
            distributed.scatter(mine)
            self._together(_unpacked(mine, self.layout), measure=False)

    def close(self) -> None:
        """Let the others go."""
        self._announce(STOP)

    def _announce(self, command: int = STOP) -> int:
        """Tell the others what comes, or hear it: the first process's word goes."""
        if self.control is None:
            self.control = distributed.new_group(backend="gloo", timeout=PATIENCE)
        word = torch.tensor(command)
        distributed.broadcast(word, src=0, group=self.control)
        return int(word)

    def _together(self, share: Batch, measure: bool) -> Update:
        """Take the step on this process's share; return, in the first process, the priorities of the whole batch."""
        update = super().update(share, measure)
        first = distributed.get_rank() == 0
        gathered = [torch.empty_like(update.priority) for _ in range(distributed.get_world_size())] if first else None
        distributed.gather(update.priority, gathered)
        return update if gathered is None else update._replace(priority=torch.cat(gathered))

    def reset_where_due(self) -> None:
        """Draw parts of the networks anew; what is drawn is the first process's draw."""
        super().reset_where_due()
        if self.resets.due(self.updates):
            for network in (self.network, self.target_network):
                for values in network.state_dict().values():
                    distributed.broadcast(values, src=0)


def _ordered(batch: Batch) -> dict[str, Tensor]:
    """Return a batch's fields, long words first; observations time-major, channels last, as replays deliver them."""
    fields = dict(batch.items())
    obs = fields["obs"].transpose(0, 1)
    fields["obs"] = obs.movedim(2, -1) if obs.ndim == 5 else obs
    return dict(sorted(fields.items(), key=lambda field: -field[1].dtype.itemsize))


def _pack(fields: dict[str, Tensor]) -> Tensor:
    return torch.cat([values.contiguous().view(-1).view(torch.uint8) for values in fields.values()])


def _unpacked(packed: Tensor, layout: Layout) -> Batch:
    sizes = [shape.numel() * dtype.itemsize for _, shape, dtype in layout]
    parts = packed.split(sizes)
    fields = {name: part.view(dtype).view(shape) for (name, shape, dtype), part in zip(layout, parts, strict=True)}
    obs = fields["obs"].movedim(-1, 2) if fields["obs"].ndim == 5 else fields["obs"]
    fields["obs"] = obs.transpose(0, 1)
    return Batch(**fields, batch_size=[len(fields["index"])])
