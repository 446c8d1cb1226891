"""Rows that were gathered before: a finished run's replay, or a Minari dataset."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from offpol.errors import ConfigError
from offpol.memory.ring import Ring
from offpol.record.identity import MINARI
from offpol.record.run_directory import CHECKPOINTS, CONFIG, played_in
from offpol.record.segments import Segment, require_rows, rows_of
from offpol.types import EnvSpec, StateDict


class Stored(NamedTuple):
    """What `load_offline` finds."""

    segments: list[Segment]  # oldest first, fit for `offpol.record.segments.load_rows`
    mu_known: bool  # the logged probabilities are those that actions were drawn with


def load_offline(source: str, spec: EnvSpec) -> Stored:
    """Return the stored rows of `source`.

    Where a dataset logged no probabilities, those of a uniform policy stand for them: what is measured stays finite.
    Policy versions are counted back from 0, the newest one's: as if it had acted when the run that reads them began.

    Args:
        source: the folder of a run (its newest checkpoint is taken), or "minari:" and a dataset's id.
        spec: of the env that they are going to be mixed with.

    Raises ConfigError where there is nothing to load, ValueError where it is of another env.
    """
    if source.startswith(MINARI):
        from offpol.minari import import_dataset

        segments = [import_dataset(source.removeprefix(MINARI), spec.stack, spec.name)]
        mu_known = not any(bool(segment["behavior_log_prob"].isnan().any()) for segment in segments)
    else:
        from offpol.record.checkpoint import load_newest

        if not source or not any((Path(source) / name).exists() for name in (CONFIG, CHECKPOINTS)):
            raise ConfigError(f"replay.offline={source} is no run: give the folder of one, or minari:ID for a dataset.")
        require_game(source, played_in(Path(source), spec.name), spec.name)
        found = load_newest(Path(source) / CHECKPOINTS, only=["replay"])
        segments = rows_of(found.state["replay"], str(found.path))
        mu_known = not acted_noisily(Path(source))
    saved = (segments[0]["obs"].dtype, tuple(segments[0]["obs"].shape[1:]))
    if saved != (spec.dtype, spec.frame_shape):
        raise ValueError(
            f"offline={source} holds frames of (dtype, shape) {saved}, but {spec.name} gives "
            f"{(spec.dtype, spec.frame_shape)}: use data of the same env."
        )
    require_rows(segments, spec, f"offline={source}", mu_known)
    newest = max(int(segment["policy_version"].max()) for segment in segments)
    uniform = -math.log(spec.num_actions)
    segments = [
        {
            **segment, "policy_version": segment["policy_version"] - newest,
            "behavior_log_prob": segment["behavior_log_prob"].nan_to_num(uniform, math.inf, -math.inf),
        }
        for segment in segments
    ]  # fmt: skip
    return Stored(segments, mu_known)


def require_game(source: str, played: str, game: str) -> None:
    """Raise ValueError where stored rows are of another game than is played."""
    if played != game:
        raise ValueError(f"offline={source} is of {played}, but this run plays {game}: use data of that.")


def digests_of(ring: Ring) -> dict[str, str]:
    """Return checksums of what a ring of stored rows holds: of the frames, and of all the rest."""
    return {
        "rows": hashlib.sha256(ring.records.data).hexdigest(),
        "frames": hashlib.sha256(ring.frames.data).hexdigest(),
    }


def require_same(digests: Mapping[str, str], replay: StateDict, source: str | None) -> None:
    """Raise ConfigError where rows are not those that the run with this saved replay has been learning from."""
    kept = replay.get("mix", {})
    if any(kept.get(name, digest) != digest for name, digest in digests.items()):
        raise ConfigError(
            f"replay.offline={source} does not hold the rows that this run has been learning from: put them back, "
            "name the folder where they are now, or begin a new run."
        )


def acted_noisily(run: Path) -> bool:
    """Tell whether a run acted by noisy layers, whose actions have no known probability."""
    from offpol.record.run_results import read_run

    return (run / CONFIG).is_file() and bool(read_run(run).cfg["network"].get("heads", {}).get("noisy"))
