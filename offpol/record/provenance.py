"""Where a run came from: versions, commit, seeds, threads, machine."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from offpol.seeding import seed_for

PACKAGES = ("offpol", "torch", "numpy", "gymnasium", "ale-py", "tensordict", "numba", "minatar", "hydra-core")
STREAMS = ("torch", "env", "actor", "replay", "evaluation")  # of the seeds that are worth writing down


def describe(seed: int) -> dict[str, Any]:
    """Return what has to be known to repeat a run, ready for JSON."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": seed,
        "seeds": {name: seed_for(seed, name) for name in STREAMS},
        "threads": {"torch": torch.get_num_threads(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
        "versions": _versions(),
        "git": _git(Path(__file__).parents[2]),
        "machine": {
            "platform": platform.platform(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def rounds_otherwise(info: Mapping[str, Any]) -> list[str]:
    """List as name=value what rounds numbers otherwise here than where a run began, of which `describe` said `info`."""
    then = {**info.get("versions", {}), "cpu": info.get("machine", {}).get("cpu")}
    now = {**_versions(), "cpu": _cpu()}
    return [f"{name}={now[name]}" for name in ("torch", "numpy", "cpu") if now[name] != then.get(name)]


def _versions() -> dict[str, str | None]:
    return {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Return commit and dirtiness of the clone that offpol runs from; None where it is installed elsewhere."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
        changed = _output("git", "-C", str(folder), "status", "--porcelain")
    except (OSError, subprocess.SubprocessError) as error:
        return {"commit": None, "why": str(error)}
    return {"commit": commit, "dirty": bool(changed)}


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
