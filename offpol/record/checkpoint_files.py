"""Files of a checkpoint: written through to the disk, with a checksum, and checked before they are read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

PLAIN_TYPES = (str, bytes, int, float, bool, type(None), torch.Tensor, torch.Size, torch.dtype)


def write_tensors(path: Path, part: Any) -> dict[str, Any]:
    """Write a part of a state and see it safely on the disk; return its `sha256` and `bytes`.

    Raises OSError where that fails.
    """
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save(part, hashing)  # type: ignore[arg-type]  # it only writes and flushes
        except RuntimeError as error:  # torch closing the archive that could not be written
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return {"sha256": hashing.sum.hexdigest(), "bytes": hashing.bytes}


def verify(path: Path, expected: dict[str, Any]) -> None:
    """Raise ValueError where a file's length or checksum is not what `write_tensors` said, OSError where it is gone."""
    if path.stat().st_size != expected["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {expected['bytes']}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected["sha256"]:
        raise ValueError(f"the checksum of {path.name} differs")


def checksum(content: Any) -> str:
    """Return the SHA-256 of JSON, however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require_plain(value: Any, where: str) -> None:
    """Raise TypeError now for what torch.load would refuse on the day it is needed."""
    if isinstance(value, dict):
        for key, item in value.items():
            require_plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            require_plain(item, f"{where}[{i}]")
    elif type(value) not in (*PLAIN_TYPES, torch.nn.Parameter):
        raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold: use tensors and numbers")


def sync_folder(path: Path) -> None:
    """See the names in a folder safely on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
