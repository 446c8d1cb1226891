"""The config groups and what each can be set to; to be asked while Hydra is initialised, and empty otherwise."""

from __future__ import annotations

from string import Template

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig


def groups(parent: str = "") -> list[str]:
    """List the config groups, nested ones by their path, without Hydra's own."""
    found = []
    for name in _options(parent, ObjectType.GROUP):
        path = f"{parent}/{name}" if parent else name
        if path != "hydra":
            found += [path, *groups(path)]
    return found


def options(group: str) -> list[str]:
    """List what a group can be set to."""
    return _options(group, ObjectType.CONFIG)


def help_text(composed: DictConfig) -> str | None:
    """Return what --help says; None for a help of Hydra's own, which it fills in by itself, and more slowly.

    To be called while `compositions` is at work.
    """
    if composed.hydra.runtime.choices["hydra/help"] != "offpol":
        return None
    listed = {group: options(group) for group in sorted(groups())}
    lines = [f"{group}: {', '.join(names)}" for group, names in listed.items() if names]
    return Template(composed.hydra.help.template).substitute(APP_CONFIG_GROUPS="\n".join([*lines, ""]))


def _options(group: str, kind: ObjectType) -> list[str]:
    hydra = GlobalHydra.instance()
    # The loader's own `get_group_options` copies all that it knows at every call.
    sources = hydra.config_loader().get_sources() if hydra.is_initialized() else []
    return sorted({name for source in sources if source.is_group(group) for name in source.list(group, kind)})
