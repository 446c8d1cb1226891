"""From the command line to composed configs, with one sentence for every mistake, before torch is imported."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from offpol.cli.groups import groups, options
from offpol.cli.mistakes import (
    dotted_keys,
    explain,
    first_line,
    no_such_key,
    require_folder,
    taking_any,
    without_header,
)
from offpol.cli.swapped import for_other_parts
from offpol.config import conf_dir
from offpol.errors import ConfigError
from offpol.record.identity import located
from offpol.record.renamed import current

VERSION_BASE = "1.3"
OVERLAYS = ("experiment", "task")  # groups of which several may be put on top of each other, as Hydra's lists do


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read Hydra's own flags and the overrides, in any order; raise ConfigError for a flag that is none."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    for action in parser._actions:
        if "--version" in action.option_strings:
            action.version = f"offpol {version('offpol')}, {action.version}"  # type: ignore[attr-defined]
    args, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1, cutoff=0.8)
        hint = f"did you mean '{near[0]}'?" if near else "values are written key=value (offpol --help)."
        raise ConfigError(f"There is no flag '{unknown[0]}': {hint}")
    if (args.package or args.resolve) and not args.cfg:
        raise ConfigError("--package and --resolve are about what --cfg shows: add --cfg job.")
    if args.multirun and (args.cfg or args.info):
        raise ConfigError("A sweep (-m) runs, --cfg and --info only show: leave one out.")
    return args


def for_hydra(arguments: list[str], overrides: list[str]) -> list[str]:
    """Write the arguments as Hydra itself reads them: flags before overrides, and --config-path absolute.

    Hydra takes that path relative to offpol's source, a person to where they stand.
    """
    given = list(arguments)
    for override in overrides:
        given.remove(override)
    flags = ("--config-path", "-cp")
    done = []
    for previous, argument in zip(["", *given], given, strict=False):
        flag, equals, path = argument.partition("=")
        if previous in flags:
            argument = str(Path(argument).absolute())
        elif flag in flags and equals:
            argument = f"{flag}={Path(path).absolute()}"
        done.append(argument)
    return [*done, *overrides]


def compositions(args: argparse.Namespace) -> Iterator[DictConfig]:
    """Compose what is about to run, `hydra` included; of a sweep, each value of each choice at least once.

    Raises ConfigError for anything that does not compose.
    """
    folder = Path(args.config_path).absolute() if args.config_path else conf_dir()
    extra = [f"hydra.searchpath=[file://{Path(args.config_dir).absolute()}]"] if args.config_dir else []
    if extra and any(override.startswith("hydra.searchpath") for override in args.overrides):
        raise ConfigError("Give either --config-dir or hydra.searchpath=[...], not both.")
    require_folder(folder)
    require_folder(args.config_dir)
    with initialize_config_dir(str(folder), version_base=VERSION_BASE, job_name="offpol"):
        name = args.config_name or "config"
        try:
            parsed = _parse_overrides(args.overrides)
            for overrides in _variants(parsed) if args.multirun else [args.overrides]:
                composed = compose(name, [*overrides, *extra], return_hydra_config=True)
                if args.package and OmegaConf.select(composed, args.package.replace("_global_", "")) is None:
                    raise ConfigError(no_such_key(args.package, _known(name, overrides, extra)))
                _refuse_two_tasks(composed)
                _refuse_without_header(composed)
                yield composed
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(explain(error, lambda: _known(name, args.overrides, extra))) from error


def composed(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """Return the program's own part of the one config that overrides make; raise ConfigError for what is none."""
    flags = ["--config-dir", config_dir] if config_dir else []
    return plain(next(compositions(parse([*flags, *overrides]))))


def swept_keys(args: argparse.Namespace) -> list[str]:
    """List the keys that a sweep gives several values."""
    if not args.multirun:
        return []
    try:
        parsed = OverridesParser.create().parse_overrides(args.overrides)
    except HydraException:  # `compositions` says what is wrong
        return []
    return [override.get_key_element() for override in parsed if override.is_sweep_override()]


def output_folder(cfg: DictConfig, multirun: bool) -> Path:
    """Return where Hydra is going to put a composed run, or a whole sweep."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        return Path(OmegaConf.select(cfg, "hydra.sweep.dir" if multirun else "hydra.run.dir"))
    finally:
        HydraConfig.instance().cfg = before


def plain(cfg: DictConfig, hydra: Any = None, left_out: list[str] | None = None) -> dict[str, Any]:
    """Return the program's own part of a composed config, resolved.

    `task` and `recipe`, where there are any, only hand values to other sections (the support of critics, the width of
    one network) and are left out, and so is what is `for_other_parts`: its keys are added to `left_out`. `hydra` is
    that section, where `cfg` has none.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        content: dict[str, Any] = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error
    for name in ("task", "recipe"):
        content.pop(name, None)
    current(content)  # which may be a saved one, by --config-path
    if isinstance(source := content.get("replay", {}).get("offline"), str):
        content["replay"]["offline"] = located(source)  # the saved config is read from other folders too
    hydra = hydra or cfg.get("hydra")
    for section, key in for_other_parts(content, hydra) if hydra else ():
        del content[section][key]
        if left_out is not None:
            left_out.append(f"{section}.{key}")
    return content


def parse_overrides(arguments: list[str]) -> list[Override]:
    """Read overrides, sweeps among them; raise ConfigError for what is none."""
    try:
        return OverridesParser.create().parse_overrides(arguments)
    except HydraException as error:
        raise ConfigError(explain(error, list)) from error


def parse_assignments(arguments: list[str]) -> dict[str, object]:
    """Read plain key=value overrides; raise ConfigError for anything else."""
    parsed = parse_overrides(arguments)
    for override in parsed:
        if override.is_sweep_override() or override.is_add() or override.is_delete():
            raise ConfigError(f"{override.input_line} is not of the form key=value.")
    return {override.key_or_group: override.value() for override in parsed}


# -------------------------------------------------------------------------------------------- the pieces


def _refuse_two_tasks(composed: DictConfig) -> None:
    """Some experiments are a task, played by the default agent: another task on top would be half of each."""
    chosen = composed.hydra.runtime.choices
    experiment, task = chosen.get("experiment"), chosen.get("task")
    if experiment in options("task") and task not in (experiment, "atari"):
        raise ConfigError(
            f"experiment={experiment} is the task {experiment} already: leave it out, and write task={task} alone."
        )


def _refuse_without_header(composed: DictConfig) -> None:
    sections = {*composed} - {*OVERLAYS}
    for group in OVERLAYS:
        if sections & {*composed.get(group, ())} or (group in composed and group != "task"):
            file = f"The yaml of {group}={composed.hydra.runtime.choices.get(group)} (or of its defaults list)"
            raise ConfigError(without_header(file))


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message[:1].upper()}{message[1:]}.")


def _parse_overrides(overrides: list[str]) -> list[Override]:
    parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)
    for override in parsed:
        name = override.key_or_group
        if not name:
            raise ConfigError(f"Cannot read '{override.input_line}': write key=value.")
        chosen = "" if override.is_sweep_override() or override.is_delete() else override.value()
        known = [] if isinstance(chosen, str) or "." in name else options(name)  # looking for them takes time
        if known and not isinstance(chosen, list):
            raise ConfigError(f"'{override.input_line}' names no option of a group, which has: {', '.join(known)}.")
        if known and isinstance(chosen, list) and name not in OVERLAYS:
            one, all_of_them = f"{name}=", ",".join(str(each) for each in chosen)
            raise ConfigError(f"{override.input_line}: a run takes one. For a sweep: offpol -m {one}{all_of_them}.")
    return parsed


def _variants(parsed: list[Override]) -> Iterator[list[str]]:
    """List override lists that use each value of a sweep at least once; ranges without steps are left out."""
    choices: list[list[str]] = []
    for override in parsed:
        if not override.is_sweep_override():
            choices.append([str(override.input_line)])
        elif override.is_discrete_sweep():
            choices.append([f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()])
    first = [values[0] for values in choices]
    yield first
    for i, values in enumerate(choices):
        for value in values[1:]:
            yield [*first[:i], value, *first[i + 1 :]]


def _known(config_name: str, overrides: list[str], extra: list[str]) -> list[str]:
    """List the groups and all keys of the config, as the overrides of groups make it."""
    known = groups()
    try:
        chosen = [
            str(override.input_line)
            for override in _parse_overrides(overrides)
            if not override.is_sweep_override() and override.key_or_group in known
        ]
        composed = plain(compose(config_name, [*chosen, *extra], return_hydra_config=True))
    except (HydraException, OmegaConfBaseException, ConfigError):
        return known
    return [*known, *dotted_keys(composed), *taking_any(composed)]
