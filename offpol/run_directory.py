"""A run's folder: made once, never overwritten."""

from __future__ import annotations

import datetime
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offpol.errors import ConfigError

CONFIG, INFO = "config.yaml", "info.json"


def require_new(directory: Path) -> None:
    """Raise ConfigError for a folder that has something in it."""
    if directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(
            f"{directory} is not empty, and runs are never overwritten: name another folder with hydra.run.dir=..., or "
            f"go on with the run in it by offpol resume={directory}"
        )


def require_writable(directory: Path) -> None:
    """Raise ConfigError where nothing could be written into a folder (to be), without leaving a trace."""
    parent = directory.absolute()
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            return
    except OSError as error:
        raise ConfigError(
            f"{directory} cannot be written ({parent}: {error.strerror}): name another folder with hydra.run.dir=..."
        ) from error


def create(directory: Path, config: str, info: dict[str, Any]) -> None:
    """Make the folder of a new run, with its config and where it comes from."""
    require_writable(directory)
    require_new(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / CONFIG).open("x") as file:  # two runs that start in one second: the other one fails here
        file.write(config)
    write_json(directory / INFO, {**info, "resumed": []})


def read_info(directory: Path) -> dict[str, Any]:
    """Return where a run comes from."""
    info: dict[str, Any] = json.loads((directory / INFO).read_text())
    return info


def note_resumption(directory: Path, agent_steps: int, changed: Mapping[str, object], config: str) -> None:
    """Keep on record that a run went on, and with which changes; the config becomes the changed one."""
    info = read_info(directory)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    info["resumed"].append({"when": when, "agent_steps": agent_steps, "changed": dict(changed)})
    write_json(directory / INFO, info)
    write_text(directory / CONFIG, config)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a kill leaves either the old one or the new one whole."""
    scratch = path.with_name(path.name + ".partial")
    scratch.write_text(text)
    os.replace(scratch, path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")
