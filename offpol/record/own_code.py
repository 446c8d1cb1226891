"""Which code of one's own a run was made with: the parts from outside offpol, and the SHA-256 of their files."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from offpol.record.identity import flatten


def own_code(cfg: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return class, file and the file's SHA-256 of each part from outside offpol, by its place in the config.

    What is in no file, as a class of a notebook, is left out. What the file imports is not looked at. Of a
    gymnasium env that is named MODULE:ID it is the module, which registers it.
    """
    found = {}
    module, colon, _ = str(cfg.get("env", {}).get("id", "")).partition(":")
    file = _file(f"{module}.") if colon else None  # a module, as a class without a name in it
    if file and (digest := _sha256(file)):
        found["env.id"] = {"class": f"{module}.", "file": file, "sha256": digest}
    for key, target in flatten(cfg):
        part, _, last = key.rpartition(".")
        if last == "_target_" and not target.startswith("offpol."):
            written = _written(target)
            file = _file(written)
            if file and (digest := _sha256(file)):
                found[part] = {"class": written, "file": file, "sha256": digest}
    return found


def other_code(info: Mapping[str, Any]) -> list[str]:
    """Name the parts, each with its file, whose code is not what a run with this info.json began or went on with.

    What cannot be told is left out: a file that is gone, or a run from before this was kept.
    """
    found = set()
    for part, known in _kept(info):
        file = _file(known["class"]) or known["file"]
        if _sha256(file) not in (None, known["sha256"]):
            found.add(f"{part} ({file})")
    return sorted(found)


def made_with(info: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """List part, class and SHA-256 of the own code that a run with this info.json began or went on with."""
    return {(part, known["class"], known["sha256"]) for part, known in _kept(info)}


def _kept(info: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    for record in (info, *info.get("resumed", ())):
        yield from record.get("own_code", {}).items()


def _written(target: str) -> str:
    """Return where the class of a part was written; its `_target_` may only import it from there."""
    module, _, name = target.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return f"{found.__module__}.{found.__qualname__}" if isinstance(found, type) else target


def _file(target: str) -> str | None:
    """Find the file that a class is in, without importing it; None where there is none."""
    module, _, name = target.rpartition(".")
    loaded = sys.modules.get(module)
    if module == "__main__" and not hasattr(loaded, name):  # of another program
        return None
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


def _sha256(file: str) -> str | None:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None
