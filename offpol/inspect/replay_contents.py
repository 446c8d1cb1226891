"""What the replay of a run holds, as text and pictures; export and import."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offpol.assembly import build_replay, run_spec
from offpol.cli.saved_config import load_saved
from offpol.errors import ConfigError
from offpol.inspect import replay_pictures
from offpol.inspect.inspection import stored_ring
from offpol.memory.ring import Ring
from offpol.output import say, tell
from offpol.record.checkpoint import Checkpoints, load_newest
from offpol.record.identity import game_of
from offpol.record.run_directory import CHECKPOINTS, locked, played_in, require_writable
from offpol.record.run_summary import summary
from offpol.record.segments import ROW_TYPES, Segment, require_rows, rows_since
from offpol.types import StateDict

DRAWS, GAME = "draws", "game"  # arrays of a file that are no rows: what is drawn by, and what was played
SEGMENT = {"obs", *ROW_TYPES, "start", "stop", "oldest", "valid_before", "stack", DRAWS}  # its arrays, but GAME
UNREADABLE = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
BAR = 40  # characters


def show(args: argparse.Namespace) -> None:
    """Describe the replay, draw its pictures into the run's folder, and export it where that was asked for."""
    if args.windows < 1 or args.seed < 0:
        raise ConfigError("--windows must be at least 1 and --seed not negative.")
    cfg = load_saved(args.run_dir)
    found = load_newest(args.run_dir / CHECKPOINTS, only=["replay"])
    for sentence in found.lost:
        tell(f"offpol-replay: {sentence}.")
    ring = stored_ring(cfg, found, args.run_dir)
    if args.export:
        export(ring, found.state["replay"].get(DRAWS, {}), played_in(args.run_dir, game_of(cfg)), args.export)
        say(f"Written: {args.export}")
        return
    ages, priorities = ages_updates(ring, found.about["updates"]), priorities_of(found.state["replay"].get(DRAWS, {}))
    say(summary(f"Replay of {args.run_dir}", facts(ring, found.about)))
    say(histogram("age of valid rows, updates", ages))
    if priorities is not None:
        say(histogram("priority of drawable windows", priorities, logarithmic=True))
    pictures = [args.run_dir / name for name in ("replay.png", "replay_windows.png")]
    replay_pictures.histograms(pictures[0], ages, priorities)
    if ring.num_drawable:
        replay_pictures.contact_sheet(pictures[1], ring, args.windows, np.random.default_rng(args.seed))
    else:
        pictures.pop()  # of no window there is none
    say(f"Pictures: {', '.join(map(str, pictures))}")


def facts(ring: Ring, about: dict[str, Any]) -> dict[str, object]:
    """Say in numbers what a ring holds; lengths count episodes that lie in it from start to end."""
    rows = ring.records[ring.written]
    ends = int((rows["terminated"] | rows["truncated"]).sum())
    valid = int(rows["valid"].sum())
    return {
        "at": f"{about['agent_steps']:,} agent steps, {about['updates']:,} updates",
        "rows": f"{len(rows):,} in {ring.num_streams} streams, {valid:,} of them transitions",
        "windows": f"{ring.num_drawable:,} of {ring.window} transitions can be drawn",
        "episodes": f"{ends:,} ends, one every {valid / max(ends, 1):.1f} transitions",
        "rewards": f"{np.count_nonzero(rows['reward'][rows['valid']]):,} other than 0",
        "size": f"{len(rows) * (ring.frames[0].nbytes + ring.records.itemsize) / 1e6:,.1f} MB",
    }


def ages_updates(ring: Ring, updates: int) -> np.ndarray:
    """Return the age of each valid row: updates since the parameters that acted."""
    rows = ring.records[ring.written]
    ages: np.ndarray = updates - rows["policy_version"][rows["valid"]]
    return ages


def priorities_of(draws: StateDict) -> np.ndarray | None:
    """Return the priorities of drawable windows that have one, None where the replay keeps none."""
    if not draws.get("alpha"):
        return None
    masses = draws["masses"].numpy()
    priorities: np.ndarray = masses[masses > 0] ** (1 / draws["alpha"]) - draws["made_with"]["epsilon"]
    return priorities


def histogram(title: str, values: np.ndarray, logarithmic: bool = False, bins: int = 10) -> str:
    """Lay out a histogram as lines of text."""
    if not len(values):
        return f"\n{title}: none"
    edges = replay_pictures.edges(values, bins, logarithmic)
    counts, _ = np.histogram(values, edges)
    lines = [
        f"  {low:>10.4g} .. {high:<10.4g} {count:>9,}  {'#' * round(BAR * count / counts.max())}"
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    return "\n".join([f"\n{title} (median {np.median(values):.4g})", *lines])


# --------------------------------------------------------------------------------------- export and import


def export(ring: Ring, draws: StateDict, game: str, path: Path) -> None:
    """Write rows and draws so that `take_in` brings them back exactly; rows are plain arrays for anyone to read."""
    if path.suffix != ".npz" or not path.absolute().parent.is_dir():
        raise ConfigError(f"{path} must end in .npz and lie in a folder that exists.")
    require_writable(path.absolute().parent, "name another file with --export.")
    packed = io.BytesIO()
    torch.save(draws, packed)
    arrays = {name: values.numpy() for name, values in rows_since(ring).items()}
    own = {DRAWS: np.frombuffer(packed.getvalue(), np.uint8), GAME: np.array(game)}
    scratch = path.with_name(f"{path.name}.partial")
    try:
        with scratch.open("wb") as file:  # given a path, savez puts .npz behind it
            np.savez(file, **arrays, **own)  # type: ignore[arg-type]
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read(path: Path) -> tuple[StateDict, str]:
    """Read what `export` wrote: a replay's state, and the game; ConfigError where it is none."""
    try:
        with np.load(path) as file:
            game = str(file[GAME])
            names = [name for name in file.files if name != GAME]
            arrays = {name: torch.from_numpy(np.ascontiguousarray(file[name])) for name in names}
        if lacking := SEGMENT - arrays.keys():
            raise ValueError(f"it has no {', '.join(sorted(lacking))}")
        draws = torch.load(io.BytesIO(arrays.pop(DRAWS).numpy().tobytes()), weights_only=True)
    except UNREADABLE as error:
        why = f"its {DRAWS} cannot be read" if isinstance(error, pickle.UnpicklingError) else error
        raise ConfigError(f"{path} is no exported replay ({why}): give a file that --export wrote.") from error
    arrays["stack"] = arrays["stack"].reshape(())
    return {"rows": [arrays], DRAWS: draws}, game


def take_in(directory: Path, path: Path) -> None:
    """Save a checkpoint that is the newest one with the replay of a file; ConfigError where that does not fit."""
    cfg, (new, game) = load_saved(directory, "cpu"), read(path)
    if game not in (own := played_in(directory, game_of(cfg)), game_of(cfg)):  # as earlier commits named it
        raise ConfigError(f"{path} does not fit the run: it holds rows of {game}, and the run plays {own}.")
    with locked(directory):  # a run must not go on meanwhile
        checkpoints = Checkpoints(directory / CHECKPOINTS, cfg["run"]["keep_checkpoints"])
        found = checkpoints.load()
        for sentence in found.lost:
            tell(f"offpol-replay: {sentence}.")
        new["rows"] = _no_newer_than(found.about["updates"], new["rows"])
        # What is no row of the ring, as the priorities of offline rows, stays the run's own.
        replay = {**found.state["replay"], **new}
        _require_loadable(cfg, directory, replay, path)
        target = checkpoints.save({**found.state, "replay": replay}, found.about)
    say(f"Written: {target}. Go on with it: offpol resume={directory}")


def _require_loadable(cfg: dict[str, Any], directory: Path, state: StateDict, path: Path) -> None:
    """Raise ConfigError where the run could not go on with that state of its replay."""
    spec = run_spec(cfg)
    replay = build_replay(cfg, spec, directory, "cpu")
    try:
        require_rows(state["rows"], spec, "it")
        replay.load_state_dict(state)
    except KeyError as error:
        raise ConfigError(
            f"{path} does not fit the run: it has no {error} to draw by, so it is of another kind of replay."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} does not fit the run: {error}") from error


def _no_newer_than(updates: int, rows: list[Segment]) -> list[Segment]:
    """Count the policy versions of rows back, where they are of policies that a run has not come to yet."""
    newest = max(int(segment["policy_version"].max()) for segment in rows)
    if newest <= updates:
        return rows
    tell(
        f"offpol-replay: the newest row was acted after {newest:,} updates and the run has made {updates:,}: all are "
        f"counted {newest - updates:,} updates back, so that their ages go on to mean something."
    )
    return [{**segment, "policy_version": segment["policy_version"] - (newest - updates)} for segment in rows]
