"""A run's folder: made once, never overwritten."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import json
import os
import shlex
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from offpol.errors import ConfigError

NEVER_OVERWRITTEN = "runs are never overwritten: name another folder (on the command line by hydra.run.dir=FOLDER)"
CONFIG, INFO, EVALUATION, METRICS = "config.yaml", "info.json", "evaluation.json", "metrics.jsonl"
EPISODES, CHECKPOINTS = "episodes.csv", "checkpoints"
INSPECT, INSPECTED = "inspect", "inspect.json"  # a folder and a file in it, by offpol-inspect


def resume_command(directory: Path) -> str:
    """Return what to type to go on with a run."""
    return f"offpol resume={shlex.quote(str(directory))}"


def require_new(directory: Path, sweep: bool = False) -> None:
    """Raise ConfigError for a folder, of a run or a sweep, that has something in it.

    What Hydra writes of a sweep before its first run is nothing yet.
    """
    found = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if sweep and found - {"multirun.yaml"}:
        raise ConfigError(
            f"{directory} is not empty, and runs are never overwritten: name another folder with hydra.sweep.dir=..., "
            "go on with a run of it by offpol resume=RUN_DIR, or sweep by offpol-bench, which goes on by itself."
        )
    if found and not sweep:
        raise ConfigError(f"{directory} is not empty, and {NEVER_OVERWRITTEN}{_of_the_run_in(directory, found)}")


def _of_the_run_in(directory: Path, found: Collection[str]) -> str:
    """End a sentence by what to do with the run in a folder, if there is one."""
    if CONFIG not in found:
        return "."
    if any(path.name.isdigit() for path in (directory / CHECKPOINTS).glob("*")):
        return f", or go on with the run in it by {resume_command(directory)}"
    return ". The run in it has no checkpoint to go on from: remove it, unless it is still going."


def require_writable(directory: Path, way_out: str = "name another folder with hydra.run.dir=...") -> None:
    """Raise ConfigError where nothing could be written into a folder (to be), without leaving a trace.

    `way_out` is what to do then.
    """
    parent = directory.absolute()
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            return
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written ({parent}: {error.strerror}): {way_out}") from error


def create(directory: Path, config: str, info: dict[str, Any], or_beside: bool) -> Path:
    """Make the folder of a new run, with its config and where it comes from; return it.

    Where another run was there first, as one that started in the same second, it gets a number, if `or_beside` allows.
    """
    require_writable(directory)
    beside = (directory.with_name(f"{directory.name}-{number}") for number in itertools.count(2))
    for folder in itertools.chain([directory], beside if or_beside else []):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with (folder / CONFIG).open("x") as file:
                file.write(config)
            write_json(folder / INFO, {**info, "resumed": []})
        except FileExistsError:
            continue
        except OSError as error:
            for name in (CONFIG, f"{INFO}.partial"):
                (folder / name).unlink(missing_ok=True)
            raise ConfigError(
                f"{folder} cannot be written ({error.strerror}): make room, or name another folder with "
                "hydra.run.dir=..."
            ) from error
        return folder
    raise ConfigError(f"{directory} is another run's folder: {NEVER_OVERWRITTEN}.")


def locked(directory: Path) -> contextlib.AbstractContextManager[None]:
    """Keep other processes out of a run's folder; raise ConfigError where one is in it. Ends with this process."""
    return held(directory / METRICS, f"{directory} is being written by another process: wait for it, or stop it first.")


@contextlib.contextmanager
def held(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock on a file, made if it is missing; raise ConfigError with that sentence where another has it."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(refusal) from error
        yield


def read_info(directory: Path) -> dict[str, Any]:
    """Return where a run comes from."""
    return read_json(directory / INFO, "resumed")


def played_in(directory: Path, otherwise: str) -> str:
    """Return what a run plays, as `EnvSpec.name` had it when it began, or `otherwise` where that was not kept."""
    return str(read_info(directory).get("env", otherwise)) if (directory / INFO).is_file() else otherwise


def note_resumption(
    directory: Path, agent_steps: int, changed: Mapping[str, object], config: str, own_code: Mapping[str, object]
) -> None:
    """Keep on record that a run went on, with which changes and code; the config becomes the changed one."""
    info = read_info(directory)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    info["resumed"].append(
        {"when": when, "agent_steps": agent_steps, "changed": dict(changed), "own_code": dict(own_code)}
    )
    write_json(directory / INFO, info)
    write_text(directory / CONFIG, config)


def evaluated_at(directory: Path) -> int | None:
    """Return the agent steps after which a run was evaluated last; None where it never was."""
    path = directory / EVALUATION
    return read_json(path, "agent_steps")["agent_steps"] if path.exists() else None


def read_json(path: Path, *needed: str) -> dict[str, Any]:
    """Read a small file of a run; raise ConfigError where it is missing or damaged, or lacks a key that is needed."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(found, dict) or not found.keys() >= {*needed}:
            raise ValueError(f"it has no {needed[0]}" if needed else "it holds no mapping")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} is missing or damaged ({error}): put it back from a copy, or move the run away."
        ) from error
    return found


def whole_lines(path: Path) -> list[str]:
    """Return a log's lines, without a last one that a full disk or a crash left half written."""
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a kill, or the machine's end, leaves either the old one or the new one whole."""
    scratch = path.with_name(path.name + ".partial")
    with scratch.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, as `write_text` does."""
    write_text(path, json.dumps(content, indent=1) + "\n")
