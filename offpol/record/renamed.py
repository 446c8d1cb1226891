"""Keys that had another name, or were not there yet, when a run saved its config: it is read as if begun now."""

from __future__ import annotations

from typing import Any

RENAMED = {"topology.measure_every_updates": "run.measure_every_updates"}


def current(cfg: dict[str, Any]) -> dict[str, Any]:
    """Give the keys of a saved config their names of today, in place; return it.

    A config that has both is no saved one: it is left as it is, and refused where it is checked.
    """
    for before, now in RENAMED.items():
        (section, name), (new_section, new_name) = before.split("."), now.split(".")
        if name in cfg.get(section, {}) and new_name not in cfg.get(new_section, {new_name}):
            cfg[new_section][new_name] = cfg[section].pop(name)
    for section in ("behavior", "replay"):
        for value in cfg.get(section, {}).values():
            if isinstance(value, dict) and "over_agent_steps" in value:
                value.setdefault("from_agent_steps", 0)  # schedules began at once
    if cfg.get("topology", {}).get("_target_") == "offpol.topology.sync.Sync":
        cfg["topology"].setdefault("deadline_s", 120.0)
    if cfg.get("policy", {}).get("_target_") == "offpol.policy.policy_gradient.PolicyGradient":
        cfg["policy"].setdefault("normalise", False)
    return cfg
