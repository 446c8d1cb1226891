"""Checkpoints that are whole or absent.

A checkpoint is a folder `000012` with one file per part of the state and a manifest of their SHA-256 sums. It
is written beside its place and renamed into it last, so a kill at any moment leaves the ones before untouched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from offpol.errors import ConfigError
from offpol.types import StateDict

MANIFEST = "manifest.json"
PLAIN_TYPES = (str, bytes, int, float, bool, type(None), torch.Tensor, torch.Size, torch.dtype)


class Checkpoint(NamedTuple):
    """What `load_newest` found."""

    path: Path
    about: dict[str, Any]
    state: StateDict
    lost: list[str]  # one sentence for each newer checkpoint that turned out damaged


def save(directory: Path, state: StateDict, about: dict[str, Any], keep: int = 2) -> Path:
    """Write one file per key of `state` as the newest checkpoint, then drop all but the newest `keep`.

    `about` is kept in the manifest, readable without loading anything. Raises TypeError for a state that
    could not be read back (only tensors, numbers, strings, lists and dicts can).
    """
    for name, part in state.items():
        _require_plain(part, name)
    directory.mkdir(parents=True, exist_ok=True)
    numbers = [int(path.name) for path in _newest_first(directory)]
    target = directory / f"{max(numbers, default=0) + 1:06d}"
    _remove_leftovers(directory)
    scratch = directory / f"{target.name}.partial"
    scratch.mkdir()
    files = {f"{name}.pt": _write_tensors(scratch / f"{name}.pt", part) for name, part in state.items()}
    with (scratch / MANIFEST).open("w") as file:
        json.dump({"about": about, "files": files}, file, indent=1)
        _sync(file.fileno())
    _sync_folder(scratch)
    scratch.rename(target)
    _sync_folder(directory)
    for old in _newest_first(directory)[keep:]:
        shutil.rmtree(old)
    return target


def load_newest(directory: Path, only: Collection[str] = ()) -> Checkpoint:
    """Load the newest whole checkpoint (of it the parts `only`, where given) onto the CPU.

    Every file read is compared with its checksum. Raises ConfigError where no checkpoint is whole.
    """
    lost: list[str] = []
    for path in _newest_first(directory):
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            names = [f"{name}.pt" for name in only] or list(manifest["files"])
            for name in names:
                _verify(path / name, manifest["files"][name])
            state = {Path(n).stem: torch.load(path / n, map_location="cpu", weights_only=True) for n in names}
        except (OSError, ValueError, KeyError, TypeError) as error:
            lost.append(f"checkpoint {path.name} is damaged ({error}) and was passed over")
            continue
        return Checkpoint(path, manifest["about"], state, lost)
    found = "; ".join(lost) or "there is none yet"
    raise ConfigError(f"{directory} holds no whole checkpoint: {found}.")


def _newest_first(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("*") if path.name.isdigit()] if directory.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _remove_leftovers(directory: Path) -> None:
    """Remove what a kill left half written."""
    for path in directory.glob("*.partial"):
        shutil.rmtree(path)


class _Hashing:
    """A file to write to that knows the checksum of what went through it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sum, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write_tensors(path: Path, part: Any) -> dict[str, Any]:
    with path.open("wb") as file:
        hashing = _Hashing(file)
        torch.save(part, hashing)  # type: ignore[arg-type]  # it only writes and flushes
        file.flush()
        _sync(file.fileno())
    return {"sha256": hashing.sum.hexdigest(), "bytes": hashing.bytes}


def _verify(path: Path, expected: dict[str, Any]) -> None:
    if path.stat().st_size != expected["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {expected['bytes']}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected["sha256"]:
        raise ValueError(f"the checksum of {path.name} differs")


def _require_plain(value: Any, where: str) -> None:
    """Refuse now what torch.load would refuse on the day it is needed."""
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _require_plain(item, f"{where}[{i}]")
    elif type(value) not in (*PLAIN_TYPES, torch.nn.Parameter):
        raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold: use tensors and numbers")


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
