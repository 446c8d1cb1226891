"""Offline rows beside online ones, at an exact ratio."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from offpol.offline import digests_of, load_offline, require_same
from offpol.record.segments import Segment, load_rows, rows_per_stream
from offpol.replay.prioritized import Prioritized
from offpol.schedule import Schedule
from offpol.types import Batch, EnvSpec, Rows, StateDict


class Mixed:
    """Draw a share of each batch from data gathered before, the rest from what the actors add (RLPD, Ball et al. 2023).

    Batches have one size; the share is exact on average over batches, and in each where it is a whole number of
    windows. The two kinds are interleaved, so that every slice of a batch holds the same mix. Each source has its own
    priorities and its own replay weights; `probability` counts the share in. Offline rows have the indices from
    `online.capacity_rows` on; they never change, and checkpoints do not hold them.

    Args:
        capacity: online rows kept, of all streams together.
        offline: the folder of a finished run, "minari:" and the id of a dataset, or None while the share is 0.
        offline_share: share of a batch that is drawn offline, by online agent steps.
        alpha, beta, epsilon: of the priorities, as in `Prioritized`; alpha 0 is uniform.
        storage, directory: of the online rows, as of `Prioritized`; offline ones lie in memory.
        spec, window, seed, run_directory: as of `Prioritized`.

    `mu_known` says whether the offline rows' logged probabilities are those that their actions were drawn with.

    Raises ValueError for a share outside [0, 1], or offline data that is missing or of another env.
    """

    def __init__(
        self, capacity: int, offline: str | None, offline_share: Schedule, alpha: float, beta: float, epsilon: float,
        storage: Literal["memory", "memmap"], directory: str | None, *, spec: EnvSpec, window: int, seed: int,
        run_directory: str | None = None,
    ) -> None:  # fmt: skip
        shares = offline_share.start, offline_share.end
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"offline_share must stay between 0 and 1, but goes from {shares[0]} to {shares[1]}.")
        if offline is None and max(shares) > 0:
            raise ValueError(
                "offline is null, so there is nothing to mix in: name the folder of a finished run or minari:ID, or "
                "set offline_share.start and .end to 0."
            )
        settings: dict[str, Any] = {
            "alpha": alpha, "beta": Schedule(beta, beta, 0, 0), "epsilon": epsilon, "new_priority": "max",
            "uniform_mix": 0.0, "draws": "stratified", "normaliser": "batch", "window": window,
        }  # fmt: skip
        place: dict[str, Any] = {"storage": storage, "directory": directory, "run_directory": run_directory}
        self.online = Prioritized(capacity, **settings, **place, spec=spec, seed=seed)
        self.capacity_rows = self.online.capacity_rows
        self.offline_share = offline_share
        self._source, self.offline, self.mu_known = offline, None, True
        self._digests = {"rows": "", "frames": ""}
        if offline is not None:
            segments, self.mu_known = load_offline(offline, spec)
            self.offline = _offline(segments, offline, spec, settings, seed + 1)
            self._digests = digests_of(self.offline.ring)
        self._agent_steps, self._owed = 0, 0.0

    def add(self, rows: Rows, first_stream: int = 0) -> None:
        """Append one online row to each of the streams first_stream .. first_stream + E - 1."""
        self.online.add(rows, first_stream)
        self._agent_steps += int(np.count_nonzero(rows.valid))

    def cut(self, stream: int) -> None:
        """End a stream whose env was lost."""
        self.online.cut(stream)

    def sample(self, batch_size: int) -> Batch:
        """Draw windows [B] with replacement; RuntimeError where a source that is asked has none."""
        share = self.offline_share(self._agent_steps)
        self._owed += batch_size * share
        number = min(int(self._owed + 1e-9), batch_size)  # what is left over is owed to the next batch
        self._owed -= number
        if number == 0 or self.offline is None:
            return _moved(self.online.sample(batch_size), 0, 1 - share)
        parts = [_moved(self.offline.sample(number), self.capacity_rows, share)]
        if number < batch_size:
            parts.append(_moved(self.online.sample(batch_size - number), 0, 1 - share))
        return _interleaved(parts)

    def update_priorities(self, index: Tensor, generation: Tensor, priority: Tensor) -> int:
        """Set priorities [B] of drawn windows, each in its source; return how many came too late."""
        old = index >= self.capacity_rows
        dropped = self.online.update_priorities(index[~old], generation[~old], priority[~old.to(priority.device)])
        if self.offline is not None:
            shifted = index[old] - self.capacity_rows
            dropped += self.offline.update_priorities(shifted, generation[old], priority[old.to(priority.device)])
        return dropped

    @property
    def dropped_priorities(self) -> int:
        """Priorities that came too late; offline rows are never overwritten."""
        return self.online.dropped_priorities

    def __len__(self) -> int:
        return len(self.online)

    def state_dict(self, since: Tensor | None = None) -> StateDict:
        """Return the online replay's state, and of the offline one everything but the rows."""
        offline = self.offline.draw_state() if self.offline is not None else None
        mix = {"agent_steps": self._agent_steps, "owed": self._owed, "offline": offline, **self._digests}
        return self.online.state_dict(since) | {"mix": mix}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on exactly from where the state was taken; ConfigError where the offline data is not the same."""
        require_same(self._digests, state, self._source)
        self.online.load_state_dict(state)
        self._agent_steps, self._owed = state["mix"]["agent_steps"], state["mix"]["owed"]
        if self.offline is not None:
            self.offline.load_draw_state(state["mix"]["offline"])


def _offline(segments: list[Segment], source: str, spec: EnvSpec, settings: dict[str, Any], seed: int) -> Prioritized:
    streams, rows = len(segments[0]["start"]), rows_per_stream(segments)
    window = settings["window"]
    short = ValueError(
        f"offline={source} holds no window of {window} transitions: name longer data, or lower agent.window."
    )
    if rows < window + spec.stack:  # too few for a ring
        raise short
    replay = Prioritized(
        streams * rows, **settings, storage="memory", directory=None, spec=replace(spec, num_envs=streams), seed=seed
    )
    load_rows(replay.ring, segments)
    drawable = np.flatnonzero(replay.ring.drawable(np.arange(replay.ring.size)))
    replay.tree.set(drawable, np.ones(len(drawable)))
    if not len(drawable):
        raise short
    return replay


def _moved(batch: Batch, first: int, share: float) -> Batch:
    batch.index += first
    batch.probability *= share
    return batch


def _interleaved(parts: list[Batch]) -> Batch:
    """Join batches so that each is spread evenly over the whole."""
    place = np.concatenate([(np.arange(len(part)) + 0.5) / len(part) for part in parts])
    order = torch.from_numpy(np.argsort(place, kind="stable"))
    joined: Batch = torch.cat(parts, 0)[order]  # type: ignore
    return joined
