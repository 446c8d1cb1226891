"""What did not compose, in one sentence with the nearest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import get_origin

import yaml
from hydra.errors import MissingConfigException, OverrideParseException

from offpol.cli.groups import groups, options
from offpol.config import keys
from offpol.errors import ConfigError, did_you_mean

HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.searchpath", "hydra.verbose")
WINDOW = ("n", "agent.n", "agent.n_step", "replay.n_step", "trace.n", "trace.n_step")  # what others call it
KEY = re.compile(r"^[~+]{0,2}[^\s.=:]+([./@:][^\s.=:]+)*$")  # of an override, in front of its "="


def explain(error: Exception, known: Callable[[], list[str]]) -> str:
    """Say in one sentence what did not compose, and what was probably meant.

    `known` lists the groups and keys there are, KEY.* for one that takes any; hints at options of groups come where
    Hydra is initialised.
    """
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if isinstance(error, MissingConfigException):
        return _no_such_option(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, is not yaml: {error.problem}."
    there = re.search(r"An item is already at '([^']+)'", str(error))
    if there:
        return f"{there.group(1)} is there already: leave out the plus."
    headless = re.match(r"In '([^']+)': Could not override '[^']+@(experiment|task)\b", str(error))
    if headless:
        return without_header(f"{headless.group(1)}.yaml")
    found = re.search(r"Could not (?:override|append|delete).*?'([^']+)'", str(error))
    if found:
        return no_such_key(found.group(1).lstrip("+~"), known())
    twice = re.match(r"Multiple values for (\S+)\. To override a value use 'override \S+ (\S+)'", str(error))
    if twice:
        return f"{twice.group(1)} is chosen already: write {twice.group(1)}={twice.group(2)} to choose another one."
    if str(error).startswith("Ambiguous value"):
        return f"{first_line(error)}: a sweep over several values needs the flag -m, a list needs brackets: [a,b]."
    cause = f" {first_line(error.__cause__)}" if error.__cause__ else ""
    return first_line(error) + cause


def without_header(file: str) -> str:
    """Say what an experiment or a task lacks whose keys do not stand at the top of the config."""
    return f"{file} needs a first line, # @package _global_: without it, what it sets is not where a run looks."


def no_such_key(key: str, known: list[str]) -> str:
    """Say that a key does not exist: what is near beside it, or near elsewhere, or what there is."""
    if taker := next((word[:-2] for word in known if word.endswith(".*") and f"{key}.".startswith(word[:-1])), None):
        added = f"{taker}.NAME" if key == taker else key
        return f"{taker} takes keys that no yaml lists: add them with a plus, as in +{added}=VALUE."
    parent, _, name = key.rpartition(".")
    group = key.replace(".", "/")
    if group != key and group in known:
        return f"There is no key '{key}'; {group} is a group, so write {group}=..."
    if key in known and "/" in key:
        return f"'{key}' has no place here: the group is there, but nothing that is played uses it."
    if difflib.get_close_matches(key, ["resume"], cutoff=0.8):
        return f"There is no key '{key}': did you mean 'resume=RUN_DIR'?"
    if key in WINDOW:
        return f"There is no key '{key}': n, the transitions of a window, is agent.window."
    if key == "suite":
        return "There is no key 'suite': suites are what offpol-bench runs, as in offpol-bench suite=smoke."
    if key.startswith("hydra."):
        return f"There is no key '{key}'{did_you_mean(key, HYDRA_KEYS) or ': offpol --hydra-help tells what there is.'}"
    siblings = [word.rpartition(".")[2] for word in known if word.rpartition(".")[0] == parent]
    siblings = [sibling for sibling in siblings if sibling not in ("_target_", "suite")]
    option = next((group for group in groups() if name in options(group)), None)
    if not parent and option:
        return f"There is no key '{key}', but an option of that name: write {option}={key}."
    elsewhere = _elsewhere(name, [word for word in known if word != "suite"], exactly=parent in known)
    near = did_you_mean(name, siblings, parent) if not parent or parent in known else did_you_mean(key, known)
    hint = (near or elsewhere) if parent else (elsewhere or near)
    if not hint and parent in known:
        hint = f": {parent} has {', '.join(siblings) or 'no keys'}."
    return f"There is no key '{key}'{hint or ': offpol --help tells what there is.'}"


def require_folder(folder: str | Path | None) -> None:
    """Raise ConfigError where a config folder is named that is not there."""
    if folder and not Path(folder).is_dir():
        raise ConfigError(
            f"There is no config folder {Path(folder).absolute()}: name the folder of the yaml, in full or from where "
            "you stand."
        )


def dotted_keys(node: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """List the dotted keys of nested mappings."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        yield key
        if isinstance(value, Mapping):
            yield from dotted_keys(value, f"{key}.")


def taking_any(content: Mapping[str, object]) -> Iterator[str]:
    """List KEY.* for each key of a config that is a mapping of anything, as what `gymnasium.make` takes."""
    for section, node in content.items():
        for name, parameter in (keys(node) or {}).items():
            if dict in (parameter.annotation, get_origin(parameter.annotation)):
                yield f"{section}.{name}.*"


def first_line(error: BaseException | None) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().splitlines()[0] if error and str(error).strip() else type(error).__name__


# ------------------------------------------------------------------------------------------- the pieces


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if equals and KEY.match(key) and '"' not in value:
        return f"""Cannot read '{override}': quote its value twice, as in {key}='"{value}"'"""
    if KEY.match(override) and "." in override:
        return f"Cannot read '{override}': write {override}=VALUE, without spaces."
    group = next((group for group in groups() if override in options(group)), None)
    example = f"{group}={override}" if group else "key=value, and quote a value with special characters"
    if override == "resume":
        example = "resume=RUN_DIR"
    return f"Cannot read '{override}': write {example}."


def _no_such_option(error: MissingConfigException) -> str:
    path = error.missing_cfg_file or ""
    if error.options is None:
        return f"There is no config '{path}'."
    group = max((group for group in groups() if path.startswith(group + "/")), key=len, default=path.rpartition("/")[0])
    option = path[len(group) + 1 :]
    near, known = did_you_mean(option, error.options), ", ".join(sorted(error.options))
    own = "" if near else " One of your own is found by --config-dir FOLDER."
    return f"There is no '{option}' in group '{group}'{near or '.'} It has: {known}.{own}"


def _elsewhere(name: str, known: list[str], exactly: bool) -> str:
    """Return ": did you mean ...?" for keys of that name or of these initials anywhere, or else of a name near it."""
    leaf = {word: word.rpartition(".")[2] for word in known}
    found = [word for word in leaf if name == leaf[word] or (len(name) > 1 and name == _initials(leaf[word]))]
    if not found and not exactly:
        near = difflib.get_close_matches(name, sorted(set(leaf.values())), n=1, cutoff=0.55)
        found = [word for word in leaf if leaf[word] in near]
    return f": did you mean {' or '.join(repr(word) for word in found[:3])}?" if found else ""


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))
