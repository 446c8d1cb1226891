"""Parts that were chosen in the place of others: what an experiment or a task sets for these is not for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from offpol.config import conf_dir, keys

GROUPS = ("behavior", "critic", "network", "policy", "replay", "topology", "trace")  # the env is the task's


def for_other_parts(content: Mapping[str, Any], hydra: Any) -> list[tuple[str, str]]:
    """List (section, key) of a resolved config that the chosen part does not take, but another one of its group does.

    As epsilon, for a behavior that has none. A key that no option of the group has is a slip of the pen, and stays, to
    be refused; so does what the command line or the part's own yaml says. `hydra` is that section of the config.
    """
    sources, found = folders(hydra), []
    for section in GROUPS:
        taken = keys(content.get(section))
        strange = [] if taken is None else [key for key in content[section] if key not in taken and key != "_target_"]
        if strange:
            own = _keys_of(source / section / f"{hydra.runtime.choices.get(section)}.yaml" for source in sources)
            foreign = _keys_of((conf_dir() / section).glob("*.yaml")) - own
            found += [(section, key) for key in strange if key in foreign and not asked(f"{section}.{key}", hydra)]
    return found


def folders(hydra: Any) -> list[Path]:
    """List the folders of yaml files, in the order in which Hydra looks."""
    return [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]


def asked(key: str, hydra: Any) -> bool:
    """Tell whether the command line sets a key, or something in it, or a mapping around it."""
    words = [word.lstrip("+~").partition("=")[0] for word in hydra.overrides.task]
    around = [word for word in words if word not in hydra.runtime.choices]
    return any(f"{word}.".startswith(f"{key}.") for word in words) or any(f"{key}.".startswith(f"{w}.") for w in around)


def _keys_of(files: Iterable[Path]) -> set[str]:
    return {str(key) for file in files if file.is_file() for key in yaml.safe_load(file.read_text()) or ()}
