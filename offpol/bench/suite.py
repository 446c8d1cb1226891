"""From `offpol-bench suite=s6 experiment=default,der seed=0,1` to the list of runs that this means."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.override_parser.types import Glob, Override

from offpol.checks import check_config
from offpol.cli import command_line
from offpol.cli.mistakes import explain, require_folder
from offpol.config import coerce, conf_dir
from offpol.errors import ConfigError, did_you_mean
from offpol.record.identity import Identified, game_of
from offpol.record.run_keys import GAME

SEED = "seed"


@dataclass(frozen=True)
class Suite:
    """What is played, how often and for how long; see conf/suite/.

    Args:
        name: of the file.
        games: values of env.game, of gymnasium's envs of env.id; empty: whatever the agents' configs play.
        seeds: the root seed of each run of a game.
        overrides: given to every run, before those of the command line, which win.
        grid: the agents, as a product of axes: each maps names to overrides. Empty: the command line says.
    """

    name: str
    games: tuple[str, ...]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    grid: tuple[dict[str, list[str]], ...] = ()

    def only(self, names: Sequence[str]) -> Suite:
        """Keep these names of the grid; an axis of which none is given stays whole.

        Raises ConfigError for a name that no axis has.
        """
        known = [name for axis in self.grid for name in axis]
        if names and not known:
            raise ConfigError(f"only={','.join(names)} keeps a part of a suite's grid, and {self.name} has none.")
        for name in names:
            if name not in known:
                near = did_you_mean(name, known) or "."
                raise ConfigError(f"The grid of {self.name} has no '{name}'{near} It has: {', '.join(known)}.")
        grid = tuple({name: axis[name] for name in axis if name in names} or axis for axis in self.grid)
        return replace(self, grid=grid)


NO_SUITE = Suite("custom", (), (0,))


@dataclass(frozen=True)
class Job(Identified):
    """One run: what `offpol` is called with, and the resolved config that comes of it."""

    label: str
    overrides: tuple[str, ...]
    cfg: Mapping[str, Any]


def load_suite(name: str, config_dir: str | None = None) -> Suite:
    """Read suite/NAME.yaml of conf/, or else of `config_dir`; raise ConfigError where there is none."""
    require_folder(config_dir)
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    files = [file for folder in folders for file in sorted((folder / "suite").glob("*.yaml"))]
    known = {file.stem: file for file in reversed(files)}  # the first counts, as for Hydra
    if name not in known:
        near = did_you_mean(name, known) or "."
        raise ConfigError(f"There is no suite '{name}'{near} There are: {', '.join(sorted(known))}.")
    return _read(known[name])


def _read(path: Path) -> Suite:
    """Read a suite's file; raise ConfigError for what a suite has not."""
    try:
        with path.open("rb") as file:
            content = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise ConfigError(explain(error, list)) from error
    named = {**content, "name": path.stem} if isinstance(content, dict) else content
    return cast(Suite, coerce(named, Suite, str(path)))


def expand(suite: Suite, arguments: Sequence[str], config_dir: str | None = None) -> list[Job]:
    """List the runs that a suite and overrides mean: each seed, in each game, of each variant of the agent.

    In this order, so that an unfinished bench already compares all agents in all games by the first seeds. Overrides
    with several values (`experiment=default,der`, `trace=retrace,n_step`) make a grid; `seed` and `env.game` (`env.id`)
    replace the suite's. Raises ConfigError for what does not compose or check.
    """
    parsed = command_line.parse_overrides(list(arguments))
    given = {override.get_key_element(): override for override in parsed}
    seeds = [_seed(text) for text in _values(given.pop(SEED))] if SEED in given else list(suite.seeds)
    key = next((key for key in given if key in GAME), None)
    games: list[str | None] = [*(_values(given.pop(key)) if key else suite.games)] or [None]
    first = [f"{key}={games[0]}"] if key else []
    variants = [
        (label, overrides, command_line.composed([*overrides, *first], config_dir))
        for label, overrides in _variants(suite, list(given.values()))
    ]
    jobs = [
        _job(label, overrides, cfg, seed, None if game is None else f"{key or _game_key(cfg, label)}={game}")
        for seed, game, (label, overrides, cfg) in itertools.product(seeds, games, variants)
    ]
    _refuse_twins(jobs)
    return jobs


def _refuse_twins(jobs: Sequence[Job]) -> None:
    """Raise ConfigError where two jobs are one and the same run."""
    labels: dict[tuple[str, int], str] = {}
    for job in jobs:
        key = job.identity, job.seed
        if key in labels:
            why = "given twice" if labels[key] == job.label else f"the same as '{labels[key]}'"
            raise ConfigError(
                f"'{job.label}' in {job.game} is {why}, to the last setting, and would be run twice. Leave one out; "
                "only=NAME,... keeps a part of a suite's grid."
            )
        labels[key] = job.label


def _variants(suite: Suite, given: list[Override]) -> Iterator[tuple[str, list[str]]]:
    """Yield a label and the overrides of each point of the grid: the suite's times the command line's."""
    keys = {override.get_key_element() for override in given}
    varied = {text.partition("=")[0] for axis in suite.grid for overrides in axis.values() for text in overrides}
    if both := sorted(keys & varied):
        raise ConfigError(
            f"{both[0]} is what the grid of suite {suite.name} varies, and its names would lie: choose among them by "
            "only=NAME,..., or write a suite of your own."
        )
    fixed = [text for text in suite.overrides if text.partition("=")[0] not in keys]
    fixed += [str(override.input_line) for override in given if not override.is_sweep_override()]
    swept = [override for override in given if override.is_sweep_override()]
    choices = [[f"{override.get_key_element()}={text}" for text in _values(override)] for override in swept]
    alone = [text for text in fixed if text.startswith("experiment=")] or ["experiment=default"]
    for cell in itertools.product(*(axis.items() for axis in suite.grid)):
        own = [text for _, overrides in cell for text in overrides]
        for point in itertools.product(*choices):
            words = [text.removeprefix("experiment=") for text in point or ([] if cell else alone)]
            label = ", ".join([*(name for name, _ in cell), *([",".join(words)] if words else [])])
            yield label, [*fixed, *own, *point]


def _values(override: Override) -> list[str]:
    """List the values of an override, one or many, as one would write them."""
    if override.is_sweep_override():
        if not override.is_discrete_sweep() or isinstance(override.value(), Glob):
            raise ConfigError(f"{override.input_line}: list the values here, as in a,b,c.")
        return list(override.sweep_string_iterator())
    return [str(override.input_line).partition("=")[2]]


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"seed is {text}, but must be a whole number, not negative.")
    return int(text)


def _job(label: str, overrides: list[str], cfg: dict[str, Any], seed: int, game: str | None) -> Job:
    """Make a job of a variant; `game` is the override that names it, None where the config plays its own."""
    cfg = copy.deepcopy(cfg)
    cfg["seed"] = seed
    own = [*overrides, f"{SEED}={seed}"]
    if game is not None:
        own.append(game)
        for key, value in command_line.parse_assignments([game]).items():
            cfg["env"][key.removeprefix("env.")] = value
    check_config(cfg)
    try:
        game_of(cfg)
    except ValueError as error:
        raise ConfigError(f"env.game: {error}") from error
    return Job(label, tuple(own), cfg)


def _game_key(cfg: Mapping[str, Any], label: str) -> str:
    """Return the key that says what an env plays; raise ConfigError where it plays one thing alone."""
    found = next((key for key in sorted(GAME) if key.removeprefix("env.") in cfg["env"]), None)
    if found is None:
        raise ConfigError(
            f"The env of '{label}' has none of {', '.join(sorted(GAME))}, so it cannot play a suite's games: leave the "
            "suite out, or its games empty."
        )
    return found
