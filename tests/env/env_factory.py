"""Builds envs for the tests the way the command line does: from conf/env, with overrides."""

import functools
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from offpol.config import build, conf_dir

ENVS = sorted(path.stem for path in (conf_dir() / "env").glob("*.yaml"))
PRESETS = sorted(path.stem for path in (conf_dir() / "env" / "preset").glob("*.yaml"))


def make(name: str, *overrides: str, num_envs: int = 2, seed: int = 0) -> Any:
    """Build conf/env/<name>.yaml; overrides as on the command line, e.g. env.game=Pong or env/preset=sticky.

    Atari is Breakout by default, whatever the default job plays: random games of it are short.
    """
    if name == "atari" and not any(override.startswith("env.game=") for override in overrides):
        overrides = ("env.game=Breakout", *overrides)
    return build(_compose(name, *overrides), num_envs=num_envs, seed=seed)


@functools.cache
def _compose(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base=None):
        return compose(overrides=[f"+env={name}", *overrides]).env
