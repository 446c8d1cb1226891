"""Runs from the command line of a report, each with a name for its agent that a person can tell from the others'."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offpol.errors import ConfigError
from offpol.record.bench_plan import Asked, plan_above, read_plan
from offpol.record.identity import flatten
from offpol.record.run_keys import BUDGET, GAME, INCIDENTAL
from offpol.record.run_results import RunResult, find_runs

SEAMS = {"behavior", "replay", "network", "critic", "policy", "trace"}  # that make an agent
UNSPOKEN = INCIDENTAL | GAME | BUDGET | {"resume"}
MAX_KEYS = 3  # of a config that make a name


@dataclass(frozen=True)
class Labelled:
    """A run and the name of its agent; runs of one name are seeds of one agent.

    `asked` is what a bench was asked to run of this agent, None without a bench. `reruns` are finished runs of the same
    config and seed with other scores, which are left out.
    """

    run: RunResult
    agent: str
    asked: Asked | None
    reruns: Sequence[RunResult] = ()


def collect(words: Iterable[str]) -> list[Labelled]:
    """Read the runs in or below each PATH or NAME=PATH; of runs with the same config and seed keep one.

    That is the finished one that was started first, else the one that came furthest. The name is empty where none was
    given: see `named`. Raises ConfigError for a path without runs, and for a folder that is damaged.
    """
    same: dict[tuple[str, str, int], list[RunResult]] = defaultdict(list)
    for word in words:
        name, path = _split(word)
        runs = list(find_runs([path]))
        if not runs:
            raise ConfigError(f"{path} holds no run: give the folder of a run, or one above it.")
        for run in runs:
            same[name, run.identity, run.seed].append(run)
    return [_one_of(runs, name) for (name, _, _), runs in same.items()]


def _one_of(runs: list[RunResult], name: str) -> Labelled:
    """Keep one of the runs of a config and seed."""
    finished = sorted((run for run in runs if run.finished), key=lambda run: run.info.get("started", ""))
    run = finished[0] if finished else max(runs, key=lambda run: run.reached)
    others = [other for other in finished[1:] if other.evaluation != run.evaluation]  # the same ones are copies
    return Labelled(run, name, _asked(run), others)


def named(runs: Sequence[Labelled]) -> list[Labelled]:
    """Give every agent without a name one that sets it apart from the others among these runs.

    It comes from a bench's plan, else from what the run's command said, else from what differs in the configs.
    """
    names = _names([labelled.run for labelled in runs if not labelled.agent])
    return [labelled if labelled.agent else replace(labelled, agent=names[labelled.run.agent]) for labelled in runs]


def never_begun(words: Iterable[str], runs: Sequence[Labelled]) -> list[str]:
    """Name the agents that a bench in one of these paths was asked for, and of which there is no run at all."""
    whole = {_split(word)[1].absolute() for word in words}
    plans = {plan for plan in (plan_above(labelled.run.directory) for labelled in runs) if plan}
    found = {labelled.run.agent for labelled in runs}
    agents = [
        pair for plan in sorted(plans) if whole & {plan.parent, *plan.parents} for pair in read_plan(plan).items()
    ]  # fmt: skip
    said = {asked.label for identity, asked in agents if identity in found}
    begun = [asked.label for identity, asked in agents if identity not in found]
    return [f"{label} (in another setting)" if label in said else label for label in begun]


def _split(word: str) -> tuple[str, Path]:
    name, equals, path = word.partition("=")
    if (equals and not path) or not word:
        raise ConfigError(f"'{word}' names no folder: write NAME=PATH, or a path.")
    return (name, Path(path)) if equals and "/" not in name and not Path(word).exists() else ("", Path(word))


def _names(runs: Sequence[RunResult]) -> dict[str, str]:
    """Name every agent of these runs, all differently."""
    examples: dict[str, RunResult] = {}
    for run in runs:
        examples.setdefault(run.agent, run)
    asked = {agent: _asked(run) for agent, run in examples.items()}
    names = {agent: plan.label if plan else "" for agent, plan in asked.items()}
    names |= _spoken({agent: run for agent, run in examples.items() if not names[agent]})
    same: dict[str, list[str]] = defaultdict(list)
    for agent, name in names.items():
        same[name].append(agent)
    for name, agents in same.items():
        if len(agents) > 1:
            names |= _apart(name, {agent: examples[agent].cfg for agent in agents})
    return names


def _asked(run: RunResult) -> Asked | None:
    path = plan_above(run.directory)
    return read_plan(path).get(run.agent) if path else None


def _spoken(examples: Mapping[str, RunResult]) -> dict[str, str]:
    """Name agents by what their commands said and not all of them said; a single one by its experiment and parts."""
    said = {agent: _overrides(run) for agent, run in examples.items()}
    common = set.intersection(*map(set, said.values())) if len(said) > 1 else set()
    names = {}
    for agent, words in said.items():
        own = [word for word in words if word not in common]
        experiment = [word for word in words if word.startswith("experiment=")] or ["experiment=default"]
        parts = [word for word in words if len(said) == 1 and word.partition("=")[0] in SEAMS and "," not in word]
        named = own if own and len(said) > 1 else [*experiment, *parts]
        names[agent] = ",".join(word.removeprefix("experiment=") for word in named)
    return names


def _overrides(run: RunResult) -> list[str]:
    words = [word for word in run.info.get("command", [])[1:] if "=" in word and not word.startswith("-")]
    kept = [word for word in words if word.partition("=")[0] not in UNSPOKEN and not word.startswith("hydra.")]
    return sorted(kept, key=lambda word: not word.startswith("experiment="))


def _apart(name: str, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Tell agents of one name apart by the few keys of their configs that differ, else by their identity."""
    flat = {agent: dict(flatten(cfg)) for agent, cfg in configs.items()}
    counts = Counter((key, json.dumps(value)) for values in flat.values() for key, value in values.items())
    keys = sorted({key for (key, _), count in counts.items() if count < len(flat)} - INCIDENTAL - GAME)
    parts = _part_names({v for values in flat.values() for key, v in values.items() if key.endswith("._target_")})
    if len([key for key in keys if not key.endswith("._target_")]) <= MAX_KEYS or len(keys) <= MAX_KEYS:
        chosen = {agent: _words(flat[agent], keys, parts) for agent in configs}
        if len(set(chosen.values())) == len(chosen):
            return {agent: f"{name} ({words})" for agent, words in chosen.items()}
    targets = [key for key in keys if key.endswith("._target_")]
    chosen = {agent: _words(flat[agent], targets, parts) for agent in configs}
    if targets and len(set(chosen.values())) == len(chosen):
        return {agent: f"{name} ({words})" for agent, words in chosen.items()}
    return {agent: f"{name} {agent[:4]}" for agent in configs}


def _part_names(targets: Iterable[str]) -> dict[str, str]:
    """Name parts of offpol by their module, others by their class, or in full where that is another's name too."""
    names = {target: target.split(".")[-2 if target.startswith("offpol.") else -1] for target in targets}
    counts = Counter(names.values())
    return {t: t if counts[name] > 1 and not t.startswith("offpol.") else name for t, name in names.items()}


def _words(values: Mapping[str, Any], keys: Iterable[str], parts: Mapping[str, str]) -> str:
    """Write `trace._target_: offpol.trace.n_step.NStep` as trace=n_step."""
    said = []
    for key in keys:
        if key in values:
            seam, _, last = key.rpartition(".")
            said.append(f"{seam}={parts[values[key]]}" if last == "_target_" else f"{last}={values[key]}")
    return ", ".join(said)
