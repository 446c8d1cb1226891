"""Whether an env steps as replays and traces take it to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from offpol.errors import ConfigError
from offpol.record.checkpoint_files import require_plain
from offpol.types import Env, EnvStep

STEPS = 50  # that an env is played, by random actions
DTYPES = {"reward": np.float32, "raw_reward": np.float64} | dict.fromkeys(
    ("terminated", "truncated", "valid", "game_over"), np.bool_
)


def check_env(env: Env) -> None:
    """Play a few random steps of an env that is closed afterwards; raise ConfigError where it breaks its contract.

    What the env itself raises comes through.
    """
    name, spec = type(env).__name__, env.spec
    rng = np.random.default_rng(0)
    obs_dtype = torch.empty(0, dtype=spec.dtype).numpy().dtype
    seen = _array(env.reset(), f"{name}.reset", (spec.num_envs, *spec.obs_shape), obs_dtype)
    over = np.zeros(spec.num_envs, dtype=bool)
    for _ in range(STEPS):
        kept = seen.copy()
        step: Any = env.step(rng.integers(spec.num_actions, size=spec.num_envs))
        if not isinstance(step, EnvStep):
            raise ConfigError(f"env: {name}.step returns a {type(step).__name__}, but must return offpol.types.EnvStep")
        _array(step.obs, f"{name}.step's obs", seen.shape, obs_dtype)
        for field, dtype in DTYPES.items():
            _array(getattr(step, field), f"{name}.step's {field}", (spec.num_envs,), np.dtype(dtype))
        if np.shares_memory(seen, step.obs) or not np.array_equal(seen, kept, equal_nan=True):
            raise ConfigError(
                f"env: {name}.step writes into observations that it returned before, which are stored only after it: "
                "return a new array each time, as self.obs.copy()"
            )
        try:
            require_new_episode(name, over, step)
        except ValueError as error:
            raise ConfigError(f"env: {error}") from error
        seen, over = step.obs, (step.truncated | step.game_over) & step.valid
    state = env.state_dict()
    try:
        require_plain(state, f"{name}.state_dict()")
    except TypeError as error:
        raise ConfigError(f"env: {error}") from error


def require_new_episode(name: str, over: np.ndarray, step: EnvStep) -> None:
    """Raise ValueError where an episode goes on that was `over` [E] before this step."""
    if (over & step.valid).any():
        raise ValueError(
            f"{name}.step goes on after an episode was truncated or a game was over: the step after must ignore the "
            "action, and return `valid` False with the new episode's first observation"
        )


def _array(value: Any, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
        found = f"{value.shape} of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ConfigError(f"env: {what} is {found}, but must be an array {shape} of {dtype}")
    return value
