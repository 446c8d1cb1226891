"""The config that a run saves, and reading it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from offpol.cli.mistakes import explain
from offpol.config import conf_dir
from offpol.errors import ConfigError
from offpol.record.renamed import current
from offpol.record.run_directory import CONFIG


def relaunchable(cfg: Mapping[str, Any]) -> str:
    """Return a resolved config as yaml text that starts the same run again, by itself."""
    hydra = OmegaConf.load(conf_dir() / "config.yaml").hydra
    head = "# The resolved config of this run. The same again: offpol --config-path THIS_FOLDER --config-name config\n"
    defaults = [{"override hydra/job_logging": "none"}, "_self_"]
    return head + OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **cfg, "hydra": hydra}))


def load_saved(directory: Path, device: str | None = None) -> dict[str, Any]:
    """Return the config that a run saved, to compute on `device` if one is named; ConfigError where there is none."""
    path = directory / CONFIG
    if not path.is_file():
        raise ConfigError(f"{directory} is no run: it has no {CONFIG}.")
    try:
        cfg = OmegaConf.to_container(OmegaConf.load(path))
        if not isinstance(cfg, dict):
            raise ValueError("it holds a list")
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        said = explain(error, list).rstrip(".")
        raise ConfigError(f"{path} is not as a run saved it ({said}): put back what the run wrote.") from error
    own = current({str(key): value for key, value in cfg.items() if key not in ("defaults", "hydra")})
    if device is not None and isinstance(own.get("run"), dict):  # what is none is told where it is checked
        elsewhere = device == "cpu" and own["run"].get("device", "cpu") != "cpu"
        own["run"] |= {"device": device, "actor_device": None, "compile": False, "cuda_graph": False}
        own["run"] |= {"autocast": "none"} if elsewhere else {}  # slower on most CPUs; actors there do without
    return own
