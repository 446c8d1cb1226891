"""Rows as a replay saved them, read without the replay's own code: for checks that must not share its mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from offpol.record.segments import Segment, unbroken_from


class LoggedRows:
    """Up to K rows of each of S streams, oldest first; fields are arrays [S, K], not valid beyond a stream's newest.

    Args:
        segments: what `Replay.state_dict` gave as rows, oldest first.
        agent_steps: agent steps that had been taken when the newest row was stored.
        together: whether all streams were stepped at once, so that rows tell how many agent steps came before each.

    `first` [S] is the number of each stream's row 0; `agent_steps` [K] counts those before each step, over all streams,
    or is the newest count for streams that were not stepped together.
    """

    def __init__(self, segments: Sequence[Segment], agent_steps: int, together: bool = True) -> None:
        self.segments, self.stack = segments, int(segments[-1]["stack"])
        self._start = np.stack([segment["start"].numpy() for segment in segments])  # [segments, S]
        self._stop = np.stack([segment["stop"].numpy() for segment in segments])
        lengths = self._stop - self._start
        self._offset = np.cumsum(lengths, 1) - lengths  # of a stream's rows in a segment's fields
        self.first: np.ndarray = unbroken_from(segments)
        names = ("action", "valid", "behavior_log_prob", "policy_version")
        self.action, self.valid, self.log_mu, self.version = (self._column(name) for name in names)
        for segment in segments[1:]:  # a stream that was cut had its newest row changed after it was saved
            row = segment["start"].numpy() - self.first - 1
            self.valid[row >= 0, row[row >= 0]] = segment["valid_before"].numpy()[row >= 0]
        self.agent_steps: np.ndarray = np.full(self.valid.shape[1], agent_steps)
        if together:
            self.agent_steps -= self.valid[:, ::-1].sum(0).cumsum()[::-1]
        self._begins = self._episode_begins()

    def _column(self, name: str) -> np.ndarray:
        pieces = [
            [
                segment[name].numpy()[offset : offset + length]
                for offset, length in zip(o, np.where(stop > self.first, stop - start, 0), strict=True)
            ]
            for segment, o, start, stop in zip(self.segments, self._offset, self._start, self._stop, strict=True)
        ]
        columns = [np.concatenate(stream) for stream in zip(*pieces, strict=True)]
        longest = max(map(len, columns))
        return np.stack([np.pad(column, (0, longest - len(column))) for column in columns])

    def _episode_begins(self) -> np.ndarray:
        """Return the row with which each row's episode begins [S, K]; -1 where that row is not here any more."""
        begins = np.full(self.valid.shape, -1)
        for stream, valid in enumerate(self.valid):
            begin = 0 if self.first[stream] == 0 else -1
            for k, transition in enumerate(valid.tolist()):
                begins[stream, k] = begin
                begin = begin if transition else k + 1
        return begins

    def complete(self) -> np.ndarray:
        """Tell of which rows the whole observation is here [S, K] (bool)."""
        complete: np.ndarray = (self._begins >= 0) | (np.arange(self.valid.shape[1]) >= self.stack - 1)
        return complete

    def observations(self, streams: np.ndarray, rows: np.ndarray) -> Tensor:
        """Return what was observed in rows [N, *obs_shape]: the episode's newest frames, zeros before its first."""
        newest = self.segments[-1]["obs"]
        out = torch.zeros(len(rows), self.stack, *newest.shape[1:], dtype=newest.dtype)
        for i, (stream, row) in enumerate(zip(streams.tolist(), rows.tolist(), strict=True)):
            for back in range(self.stack):
                if row - back >= max(0, int(self._begins[stream, row])):
                    out[i, self.stack - 1 - back] = self._frame(stream, row - back)
        return out if self.stack > 1 else out[:, 0]

    def _frame(self, stream: int, row: int) -> Tensor:
        number = int(self.first[stream]) + row
        piece = int(np.flatnonzero((self._start[:, stream] <= number) & (number < self._stop[:, stream]))[0])
        return self.segments[piece]["obs"][int(self._offset[piece, stream] + number - self._start[piece, stream])]
