"""From the command line to composed configs, with one sentence for every mistake, before torch is imported."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from offpol.config import conf_dir
from offpol.errors import ConfigError, did_you_mean

VERSION_BASE = "1.3"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read Hydra's own flags and the overrides."""
    return get_args_parser().parse_args(arguments)


def with_absolute_path(arguments: list[str]) -> list[str]:
    """Make --config-path absolute: Hydra takes it relative to offpol's source, a person to where they stand."""
    flags = ("--config-path", "-cp")
    done = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        flag, equals, path = argument.partition("=")
        if previous in flags:
            argument = str(Path(argument).absolute())
        elif flag in flags and equals:
            argument = f"{flag}={Path(path).absolute()}"
        done.append(argument)
    return done


def compositions(args: argparse.Namespace) -> Iterator[DictConfig]:
    """Compose what is about to run, `hydra` included; of a sweep, each value of each choice at least once.

    Raises ConfigError for anything that does not compose.
    """
    folder = Path(args.config_path).absolute() if args.config_path else conf_dir()
    extra = [f"hydra.searchpath=[file://{Path(args.config_dir).absolute()}]"] if args.config_dir else []
    if extra and any(override.startswith("hydra.searchpath") for override in args.overrides):
        raise ConfigError("Give either --config-dir or hydra.searchpath=[...], not both.")
    if not folder.is_dir() or (args.config_dir and not Path(args.config_dir).is_dir()):
        raise ConfigError(f"There is no config folder {args.config_dir or folder}.")
    with initialize_config_dir(str(folder), version_base=VERSION_BASE, job_name="offpol"):
        name = args.config_name or "config"
        try:
            parsed = _parse_overrides(args.overrides)
            for overrides in _variants(parsed) if args.multirun else [args.overrides]:
                yield compose(name, [*overrides, *extra], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_explain(error, name, args.overrides, extra)) from error


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


def plain(cfg: DictConfig) -> dict:
    """Return the program's own part of a composed config, resolved.

    `task` and `recipe`, where there are any, only hand values to other sections (the support of critics, the width of
    one network) and are left out.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        content: dict = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error
    for name in ("task", "recipe"):
        content.pop(name, None)
    return content


def relaunchable(cfg: Mapping) -> str:
    """Return a resolved config as yaml text that starts the same run again, by itself."""
    hydra = OmegaConf.load(conf_dir() / "config.yaml").hydra
    head = (
        "# The resolved config of this run. The same again: offpol --config-path THIS_FOLDER --config-name config\n"
    )
    defaults = [{"override hydra/job_logging": "none"}, "_self_"]
    return head + OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **cfg, "hydra": hydra}))


def load_saved(directory: Path) -> dict:
    """Return the config that a run saved; raise ConfigError where there is none."""
    path = directory / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{directory} is no run: it has no config.yaml.")
    cfg = OmegaConf.to_container(OmegaConf.load(path))
    return {key: value for key, value in cfg.items() if key not in ("defaults", "hydra")}  # type: ignore[union-attr]


def parse_overrides(arguments: list[str]) -> list[Override]:
    """Read overrides, sweeps among them; raise ConfigError for what is none."""
    try:
        return OverridesParser.create().parse_overrides(arguments)
    except HydraException as error:
        raise ConfigError(_explain(error, "", [], [])) from error


def parse_assignments(arguments: list[str]) -> dict[str, object]:
    """Read plain key=value overrides; raise ConfigError for anything else."""
    parsed = parse_overrides(arguments)
    for override in parsed:
        if override.is_sweep_override() or override.is_add() or override.is_delete():
            raise ConfigError(f"{override.input_line} is not of the form key=value.")
    return {override.key_or_group: override.value() for override in parsed}


# -------------------------------------------------------------------------------------------- the pieces


def _parse_overrides(overrides: list[str]) -> list[Override]:
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)


def _variants(parsed: list[Override]) -> Iterator[list[str]]:
    """List override lists that use each value of a sweep at least once; ranges without steps are left out."""
    choices: list[list[str]] = []
    for override in parsed:
        if not override.is_sweep_override():
            choices.append([str(override.input_line)])
        elif override.is_discrete_sweep():
            choices.append([f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()])
    first = [options[0] for options in choices]
    yield first
    for i, options in enumerate(choices):
        for option in options[1:]:
            yield [*first[:i], option, *first[i + 1 :]]


def _explain(error: Exception, config_name: str, overrides: list[str], extra: list[str]) -> str:
    """Say in one sentence what did not compose, and what was probably meant."""
    if isinstance(error, OverrideParseException):
        return f"Cannot read '{error.override}': write key=value, and quote a value with special characters."
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        near, known = did_you_mean(option, error.options) or ".", ", ".join(sorted(error.options))
        return f"There is no '{option}' in group '{group}'{near} It has: {known}."
    if isinstance(error, MissingConfigException):
        return f"There is no config '{error.missing_cfg_file}'."
    found = re.search(r"Could not (?:override|append|delete).*?'([^']+)'", str(error))
    if found:
        return _no_such_key(found.group(1).lstrip("+~"), _known_keys(config_name, overrides, extra))
    if str(error).startswith("Ambiguous value"):
        return f"{_first_line(error)}: a sweep over several values needs the flag -m, a list needs brackets: [a,b]."
    cause = f" {_first_line(error.__cause__)}" if error.__cause__ else ""
    return _first_line(error) + cause


def _no_such_key(key: str, known: list[str]) -> str:
    """Say that a key does not exist: what is near beside it, or what there is, or what is near elsewhere."""
    parent, _, name = key.rpartition(".")
    group = key.replace(".", "/")
    if group != key and group in known:
        return f"There is no key '{key}'; {group} is a group, so write {group}=..."
    siblings = [word.rpartition(".")[2] for word in known if word.rpartition(".")[0] == parent]
    siblings = [sibling for sibling in siblings if sibling != "_target_"]
    hint = did_you_mean(name, siblings, parent)
    if not hint and parent in known:
        hint = f": {parent} has {', '.join(siblings) or 'no keys'}."
    return f"There is no key '{key}'{hint or did_you_mean(key, known) or ': offpol --help tells what there is.'}"


def _known_keys(config_name: str, overrides: list[str], extra: list[str]) -> list[str]:
    """List the groups and all keys of the config, as the overrides of groups make it."""
    known = _groups("")
    groups = [
        str(override.input_line)
        for override in _parse_overrides(overrides)
        if not override.is_sweep_override() and override.key_or_group in known
    ]
    try:
        composed = plain(compose(config_name, [*groups, *extra], return_hydra_config=True))
    except (HydraException, OmegaConfBaseException, ConfigError):
        return known
    return [*known, *_flatten(composed, "")]


def _groups(parent: str) -> list[str]:
    """List the config groups, nested ones by their path, without Hydra's own."""
    found = []
    for name in GlobalHydra.instance().config_loader().list_groups(parent):
        path = f"{parent}/{name}" if parent else name
        if path != "hydra":
            found += [path, *_groups(path)]
    return found


def _flatten(node: Mapping, prefix: str) -> Iterator[str]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        yield key
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{key}.")


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0] if error and str(error).strip() else type(error).__name__
