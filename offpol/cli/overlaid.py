"""What a task sets in the place of the experiment that it is put on top of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from offpol.cli.swapped import asked, folders
from offpol.record.identity import flatten

ABSENT = object()


def replaced_by_task(composed: DictConfig, content: Mapping[str, Any], hydra: Any) -> list[str]:
    """List the groups and keys that the experiment, or what it builds on, sets and the task has otherwise.

    Not what comes out as the experiment has it, as by `recipe`, nor what the command line sets.

    Args:
        composed: the config.
        content: what a run has of it.
        hydra: that section of the config.
    """
    groups: dict[str, str] = {}
    chosen = hydra.runtime.choices
    wanted = dict(flatten(_plain(_read(f"experiment/{chosen.get('experiment')}", folders(hydra), groups))))
    raw = _plain(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
    had = {key: _at(content, key) for key in wanted}
    other = {key: value for key, value in wanted.items() if had[key] is not ABSENT and _at(raw, key) != value}
    world = OmegaConf.create(raw)  # in which the experiment has its way
    for key, value in other.items():
        OmegaConf.update(world, key, value)
    found = [group for group, option in groups.items() if chosen.get(group, option) != option]
    found += [key for key in other if _resolved(world, key) != had[key]]
    return [key for key in found if not asked(key, hydra)]


def left_on_host(hydra: Any) -> str | None:
    """Name the replay that the experiment has, where replay=on_device was put in its place and draws otherwise."""
    groups: dict[str, str] = {}
    _read(f"experiment/{hydra.runtime.choices.get('experiment')}", folders(hydra), groups)
    own = groups.get("replay", "prioritized")
    moved = hydra.runtime.choices.get("replay") == "on_device"
    return own if moved and own not in ("prioritized", "on_device") and not asked("replay.alpha", hydra) else None


def _read(path: str, sources: list[Path], groups: dict[str, str]) -> DictConfig:
    """Return what a yaml file and those of its defaults list set, unresolved; note the groups they choose."""
    file = next((file for source in sources if (file := source / f"{path}.yaml").is_file()), None)
    content = _plain(OmegaConf.load(file)) if file else {}
    defaults = [each if isinstance(each, dict) else {"": each} for each in content.pop("defaults", ())]
    entries = [(str(key), value) for each in defaults for key, value in each.items()]
    for key, value in reversed(entries):  # the last one counts, and the file's own before those of what it builds on
        if key.startswith("override "):
            groups.setdefault(key.removeprefix("override ").lstrip("/"), value)
    found = OmegaConf.create({})
    for key, value in entries if ("", "_self_") in entries else [*entries, ("", "_self_")]:
        if value == "_self_":
            found.merge_with(content)
        elif not key.startswith("override ") and isinstance(value, str):
            name = f"{key.partition('@')[0]}/{value}" if key else value
            other = name[1:] if name[0] == "/" else f"{path.rpartition('/')[0]}/{name}"
            found.merge_with(_read(other, sources, groups))
    return found


def _plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg)


def _at(node: Any, key: str) -> Any:
    """Return what stands at a dotted key, or in the place of a mapping around it."""
    for name in key.split("."):
        if not isinstance(node, Mapping):
            return node
        node = node.get(name, ABSENT)
    return node


def _resolved(cfg: DictConfig, key: str) -> Any:
    try:
        value = OmegaConf.select(cfg, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:  # the experiment alone would not have had it either
        return error
