"""What a bench was asked to run, kept above its runs: so that a report can tell what is missing."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from offpol.errors import ConfigError
from offpol.record.identity import agent_identity
from offpol.record.renamed import current
from offpol.record.run_directory import write_json

PLAN = "bench.json"


class Asked(NamedTuple):
    """What was asked for of one agent: its label, and the pairs of game and seed."""

    label: str
    runs: frozenset[tuple[str, int]]

    @property
    def games(self) -> list[str]:
        """The games, sorted."""
        return sorted({game for game, _ in self.runs})


class Entry(NamedTuple):
    """One run to be asked for."""

    label: str
    cfg: Mapping[str, Any]
    game: str
    seed: int


def read_plan(path: Path) -> dict[str, Asked]:
    """Return what was asked for by the agents' identities, which are those of today whatever wrote the plan."""
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache
def _read(path: Path, written: int) -> dict[str, Asked]:
    found: dict[str, Asked] = {}
    for agent in _agents(path):
        identity, runs = agent_identity(current(agent["cfg"])), {(game, seed) for game, seed in agent["runs"]}
        before = found.get(identity, Asked(agent["label"], frozenset()))
        found[identity] = before._replace(runs=before.runs | runs)  # keys that matter no more may join two agents
    return found


def extend_plan(folder: Path, suite: str, entries: Iterable[Entry]) -> None:
    """Add to the plan of a folder; what earlier benches asked for stays."""
    path = folder / PLAN
    known: dict[str, dict[str, Any]] = {}
    for agent in _agents(path) if path.is_file() else []:
        same = known.setdefault(agent_identity(current(agent["cfg"])), {**agent, "runs": []})
        same["runs"] += [pair for pair in agent["runs"] if pair not in same["runs"]]
    for entry in entries:
        identity = agent_identity(entry.cfg)
        if identity not in known:
            known[identity] = {"label": entry.label, "runs": [], "cfg": dict(entry.cfg)}
        if [entry.game, entry.seed] not in known[identity]["runs"]:
            known[identity]["runs"].append([entry.game, entry.seed])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"suite": suite, "agents": list(known.values())})


def plan_above(directory: Path) -> Path | None:
    """Find the plan of the bench that made a run."""
    near = [folder / PLAN for folder in list(directory.absolute().parents)[:4]]
    return next((path for path in near if path.is_file()), None)


def _agents(path: Path) -> list[dict[str, Any]]:
    try:
        agents = json.loads(path.read_text())["agents"]
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is no plan of offpol-bench: move it away.") from error
    if not isinstance(agents, list):
        raise ConfigError(f"{path} is an earlier offpol's: move it away, and give the bench's command again.")
    return agents
