"""What replays that keep their rows in a ring have in common: a lock, random numbers, and how they are saved."""

from __future__ import annotations

import threading

import numpy as np
from torch import Tensor

from offpol.memory.ring import Ring
from offpol.record.segments import load_rows, rows_since
from offpol.types import StateDict


class RingReplay:
    """A replay but for `add`, `sample` and `update_priorities`, each of which must hold `lock`; draws are by `rng`.

    A subclass that draws by more than that and the rows saves it by `_own_state` and `_load_own_state`.

    Args:
        ring: keeps the rows.
        seed: of the draws.
        made_with: the settings without which saved priorities would mean something else; None where there are none.
    """

    def __init__(self, ring: Ring, seed: int, made_with: StateDict | None = None) -> None:
        self.ring = ring
        self.capacity_rows = ring.size
        self.rng = np.random.default_rng(np.random.SeedSequence(seed))
        self.lock = threading.Lock()
        self._made_with = made_with and made_with | {"window": ring.window, "rows per stream": ring.rows_per_stream}

    def cut(self, stream: int) -> None:
        """End a stream whose env was lost: its newest row becomes a bootstrap row, its next starts anew."""
        with self.lock:
            self.ring.cut(stream)

    def __len__(self) -> int:
        return self.ring.num_drawable

    def state_dict(self, since: Tensor | None = None) -> StateDict:
        """Return `rows`, a list of one segment of the ring, and `draws`, everything else.

        For an incremental checkpoint give the last segment's `stop` as `since`, and hand all segments that were
        saved, oldest first, as `rows` to `load_state_dict`.
        """
        with self.lock:
            return {"rows": [rows_since(self.ring, since)], "draws": self.draw_state()}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on exactly from where the state was taken; ValueError where it does not fit this replay."""
        self._require_alike(state["draws"])
        with self.lock:
            load_rows(self.ring, state["rows"])
            self.load_draw_state(state["draws"])

    def draw_state(self) -> StateDict:
        """Return what is drawn by beside the rows; must hold `lock` where others draw."""
        made_with = {"made_with": self._made_with} if self._made_with else {}
        return {"rng": self.rng.bit_generator.state, **self._own_state(), **made_with}

    def load_draw_state(self, draws: StateDict) -> None:
        """Take over what `draw_state` returned, where the rows are the same already; `lock` and ValueError as above."""
        self._require_alike(draws)
        self.rng.bit_generator.state = draws["rng"]
        self._load_own_state(draws)

    def _require_alike(self, draws: StateDict) -> None:
        if self._made_with and draws.get("made_with") != self._made_with:
            raise ValueError(
                f"The saved priorities were made with {draws.get('made_with')}, this replay has {self._made_with}: "
                "set these as they were."
            )

    def _own_state(self) -> StateDict:
        """Return what a subclass draws by, beside the rows and `rng`."""
        return {}

    def _load_own_state(self, draws: StateDict) -> None:
        """Take over what `_own_state` returned; the rows are there already."""
