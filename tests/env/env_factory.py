"""Builds envs for the tests the way the command line does: from conf/env, with overrides."""

from typing import Any

from hydra import compose, initialize_config_dir

from offpol.config import build, conf_dir

ENVS = sorted(path.stem for path in (conf_dir() / "env").glob("*.yaml"))
PRESETS = sorted(path.stem for path in (conf_dir() / "env" / "preset").glob("*.yaml"))


def make(name: str, *overrides: str, num_envs: int = 2, seed: int = 0) -> Any:
    """Build conf/env/<name>.yaml; overrides as on the command line, e.g. env.game=Pong or env/preset=sticky."""
    with initialize_config_dir(str(conf_dir()), version_base=None):
        node = compose(overrides=[f"+env={name}", *overrides]).env
    return build(node, num_envs=num_envs, seed=seed)
