"""Checkpoints that are whole or absent, and cost what was added since the last one.

A checkpoint is a folder `000012` with one file per part of the state and a manifest of their SHA-256 sums. It is
written beside its place and renamed into it last, so a kill at any moment leaves the ones before untouched. The
replay's rows lie beside the checkpoints in `segments`: each checkpoint adds one file of the rows that are new, never
changes another, and lists in its manifest all files whose rows are still in the replay.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from offpol.errors import ConfigError
from offpol.record.checkpoint_files import checksum, require_plain, sync_folder, verify, write_tensors
from offpol.record.run_directory import write_json
from offpol.types import StateDict

MANIFEST, SEGMENTS, CHECKSUM = "manifest.json", "segments", "sha256"
DAMAGE = (OSError, ValueError, KeyError, TypeError)  # what reading a damaged checkpoint raises


class Checkpoint(NamedTuple):
    """What `load_newest` found."""

    path: Path
    about: dict[str, Any]
    state: StateDict
    lost: list[str]  # one sentence for each newer checkpoint that turned out damaged
    segments: list[dict[str, Any]]  # the manifest's entries of the replay's rows, oldest first


class Checkpoints:
    """The checkpoints of one run. What is saved continues the rows of what was saved or loaded last.

    Args:
        directory: of the checkpoints, made when needed.
        keep: how many whole ones stay, the newest.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory, self.keep = directory, keep
        self._segments: list[dict[str, Any]] = []
        self._damaged: set[str] = set()  # names of checkpoints that could not be loaded

    @property
    def since(self) -> Tensor | None:
        """How many rows each stream [S] had at the newest checkpoint, for `Replay.state_dict`; None: none is saved."""
        return torch.tensor(self._segments[-1]["stop"]) if self._segments else None

    def save(self, state: StateDict, about: dict[str, Any]) -> Path:
        """Write one file per key of `state` as the newest checkpoint, then drop all but the newest `keep`.

        `state["replay"]["rows"]` is a list of new segments, as `offpol.record.segments.rows_since` makes them. `about`
        is kept in the manifest, readable without loading anything.

        Raises:
            TypeError: for a state that could not be read back (only tensors, numbers, strings, lists and dicts can).
            OSError: where the disk is full or broken; what was written for this checkpoint is removed again.
        """
        for name, part in state.items():
            require_plain(part, name)
        (self.directory / SEGMENTS).mkdir(parents=True, exist_ok=True)
        self._remove_partial()
        number = 1 + max((_number(path) for path in self._numbered()), default=0)
        try:
            segments = self._write_rows(number, state.get("replay", {}).get("rows", []))
            target = self._write_checkpoint(number, _without_rows(state), about, segments)
        except OSError:
            self._remove_partial()
            shutil.rmtree(self.directory / f"{number:06d}", ignore_errors=True)  # renamed, but perhaps not on the disk
            for path in (self.directory / SEGMENTS).glob(f"{number:06d}*"):
                path.unlink()
            raise
        self._segments = segments
        self._drop_old()
        return target

    def load(self) -> Checkpoint:
        """Load the newest whole checkpoint, to go on from it; ConfigError where there is none."""
        found = load_newest(self.directory)
        self._segments = found.segments
        self._damaged = {path.name for path in _newest_first(self.directory) if _number(path) > _number(found.path)}
        return found

    def _write_rows(self, number: int, new: list[dict[str, Tensor]]) -> list[dict[str, Any]]:
        """Write the new segments; return the entries of all that hold rows which are still in the replay."""
        folder, segments = self.directory / SEGMENTS, self._segments
        for i, segment in enumerate(new):
            name = f"{number:06d}-{i}.pt"
            scratch = folder / f"{name}.partial"
            entry = {"file": name, "stop": segment["stop"].tolist(), **write_tensors(scratch, segment)}
            scratch.rename(folder / name)
            oldest = segment["oldest"]
            segments = [old for old in segments if (torch.tensor(old["stop"]) > oldest).any()] + [entry]
        sync_folder(folder)
        return segments

    def _write_checkpoint(
        self, number: int, state: StateDict, about: dict[str, Any], segments: list[dict[str, Any]]
    ) -> Path:
        target = self.directory / f"{number:06d}"
        scratch = self.directory / f"{number:06d}.partial"
        scratch.mkdir()
        files = {f"{name}.pt": write_tensors(scratch / f"{name}.pt", part) for name, part in state.items()}
        content = {"about": about, "files": files, "segments": segments}
        write_json(scratch / MANIFEST, {**content, CHECKSUM: checksum(content)})
        sync_folder(scratch)
        scratch.rename(target)
        sync_folder(self.directory)
        return target

    def _drop_old(self) -> None:
        """Remove what is older than the newest `keep` whole checkpoints, and the segments that nothing lists."""
        kept = [path for path in _newest_first(self.directory) if path.name not in self._damaged][: self.keep]
        for path in _newest_first(self.directory):
            if _number(path) < _number(kept[-1]):
                shutil.rmtree(path)
        listed = {name for path in _newest_first(self.directory) for name in _listed(path)}
        for path in _segments(self.directory):
            if path.name not in listed:
                path.unlink()

    def _numbered(self) -> Iterator[Path]:
        """Go through everything that has a number: no name is ever used for a second content."""
        yield from _newest_first(self.directory)
        yield from _segments(self.directory)

    def _remove_partial(self) -> None:
        """Remove what a kill or a full disk left half written."""
        for path in self.directory.glob("*.partial"):
            shutil.rmtree(path)
        for path in (self.directory / SEGMENTS).glob("*.partial"):
            path.unlink()


def load_newest(directory: Path, only: Collection[str] = ()) -> Checkpoint:
    """Load the newest whole checkpoint (of it the parts `only`, where given) onto the CPU.

    Every file read is compared with its checksum. The rows of the replay are mapped from their files, not copied.
    Raises ConfigError where no checkpoint is whole.
    """
    lost: list[str] = []
    for path in _newest_first(directory):
        try:
            return _load(path, only)._replace(lost=lost)
        except DAMAGE as error:
            lost.append(f"checkpoint {path.name} is damaged ({error}) and was passed over")
    again = f"there is none yet; offpol --config-path {directory.parent} --config-name config begins the run again"
    found = "; ".join(lost) or again
    raise ConfigError(f"{directory} holds no whole checkpoint: {found}.")


def load_checkpoint(directory: Path, name: str | None, only: Collection[str] = ()) -> Checkpoint:
    """Load a checkpoint by its name, or the newest whole one for None; ConfigError where it is not whole."""
    if name is None:
        return load_newest(directory, only)
    known = [path.name for path in _newest_first(directory)][::-1]
    if name not in known:
        raise ConfigError(f"{directory} has no checkpoint {name}; there are: {', '.join(known) or 'none'}.")
    try:
        return _load(directory / name, only)
    except DAMAGE as error:
        raise ConfigError(f"checkpoint {name} is damaged ({error}); there are: {', '.join(known)}.") from error


def older_than(path: Path, only: Collection[str] = ()) -> Iterator[Checkpoint]:
    """Load the whole checkpoints beside one that are older, the newest first."""
    for older in _newest_first(path.parent):
        if _number(older) < _number(path):
            with contextlib.suppress(*DAMAGE):
                yield _load(older, only)


def _load(path: Path, only: Collection[str]) -> Checkpoint:
    """Load one checkpoint; raise one of DAMAGE where it is not whole."""
    manifest = _manifest(path)
    segments = manifest["segments"]
    names = [f"{name}.pt" for name in only] or list(manifest["files"])
    state = {Path(name).stem: _read(path / name, manifest["files"][name]) for name in names}
    if "replay" in state and segments:
        state["replay"]["rows"] = [_read(path.parent / SEGMENTS / s["file"], s, mapped=True) for s in segments]
    return Checkpoint(path, manifest["about"], state, [], segments)


def _manifest(path: Path) -> dict[str, Any]:
    """Read what a checkpoint lists; ValueError where it is not what was written."""
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    expected = manifest.pop(CHECKSUM, None)  # runs from before it was kept have none, but these three keys
    if expected != checksum(manifest) and not (expected is None and manifest.keys() == {"about", "files", "segments"}):
        raise ValueError(f"the checksum of {MANIFEST} differs")
    return manifest


def _read(path: Path, expected: dict[str, Any], mapped: bool = False) -> Any:
    verify(path, expected)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _listed(path: Path) -> list[str]:
    """Name the segments that a checkpoint needs; one whose manifest is unreadable can never be loaded."""
    try:
        return [segment["file"] for segment in json.loads((path / MANIFEST).read_text())["segments"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _without_rows(state: StateDict) -> StateDict:
    if "rows" not in state.get("replay", {}):
        return state
    return {**state, "replay": {name: part for name, part in state["replay"].items() if name != "rows"}}


def _number(path: Path) -> int:
    return int(path.name[:6])


def _segments(directory: Path) -> list[Path]:
    """List the files of rows; what else lies there is somebody's own."""
    return [path for path in (directory / SEGMENTS).glob("*.pt") if path.name[:6].isdigit()]


def _newest_first(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("*") if path.name.isdigit()] if directory.is_dir() else []
    return sorted(found, key=_number, reverse=True)
