"""Any gymnasium env with discrete actions."""

from __future__ import annotations

from typing import Any, cast

import ale_py
import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import FlattenObservation, TransformObservation

from offpol.env_loop import EnvLoop
from offpol.errors import ConfigError, install
from offpol.types import EnvSpec


class Gymnasium(EnvLoop):
    """E copies of `gymnasium.make(id, **make_kwargs)`, stepped in a loop.

    Byte observations stay uint8, all others become float32; images [H, W, C] have their channels first. Discrete,
    composite and nested observation spaces are flattened, a discrete one to a one-hot vector.

    Args:
        id: the env's name, e.g. CartPole-v1 or a_module:AnEnv-v0.
        make_kwargs: passed to `gymnasium.make`, e.g. max_episode_steps.
        reward_clipping: learn from rewards clipped to [-1, 1]; scores stay raw.
        render: build the envs so that `render` works (slower for some).

    Raises ValueError for an unknown id or make_kwargs, for spaces that offpol cannot use, and for pictures of Atari
    games: env=atari plays them under a named protocol.
    """

    def __init__(
        self, id: str, make_kwargs: dict[str, object], reward_clipping: bool, render: bool, *, num_envs: int, seed: int
    ) -> None:
        wanted: dict[str, Any] = {"render_mode": "rgb_array"} | make_kwargs if render else make_kwargs
        gymnasium.register_envs(ale_py)
        try:
            made = [gymnasium.make(id, disable_env_checker=True, **wanted) for _ in range(num_envs)]
        except (gymnasium.error.Error, TypeError, ImportError) as error:
            raise ValueError(f"id={id} with make_kwargs={make_kwargs} cannot be built: {error}") from error
        if isinstance(made[0].unwrapped, ale_py.AtariEnv) and len(made[0].observation_space.shape or ()) > 1:
            raise ValueError(
                f"id={id} is an Atari game, whose frames may already be skipped, or not, and which is none of the "
                "protocols that scores are known for: play it by env=atari env.game=..., which skips them once. (Its "
                "memory can be watched here, as env.id=ALE/Breakout-v5 +env.make_kwargs.obs_type=ram.)"
            )
        envs = [_with_plain_observations(env, id) for env in made]
        self._renders = render
        super().__init__(envs, _spec(envs[0], id, num_envs), seed, reward_clipping)

    def render(self) -> np.ndarray:
        """Picture env 0: RGB uint8 [height, width, 3]; needs env.render=true."""
        if not self._renders:
            raise RuntimeError(f"{self.spec.name} was built without pictures: set env.render=true")
        try:
            return super().render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise ConfigError(
                f"{self.spec.name} cannot be pictured: {error}. For classic control: {install('film')}."
            ) from error


def _with_plain_observations(env: gymnasium.Env, id: str) -> gymnasium.Env:
    """Give every observation as one array, images channels first."""
    if not isinstance(env.observation_space, Box) or not env.observation_space.shape:
        env = FlattenObservation(env)
    space = env.observation_space
    if not isinstance(space, Box):
        raise ValueError(f"{id} has observations {space}, which do not flatten to a fixed shape: choose another env.")
    if len(space.shape) == 3 and space.shape[2] in (1, 3, 4) and space.shape[0] > 4:
        low, high = (np.moveaxis(bound, 2, 0) for bound in (space.low, space.high))
        env = TransformObservation(env, lambda image: np.moveaxis(image, 2, 0), Box(low, high, dtype=space.dtype.type))
    return env


def _spec(env: gymnasium.Env, id: str, num_envs: int) -> EnvSpec:
    actions, observations = env.action_space, cast(Box, env.observation_space)
    if not isinstance(actions, Discrete) or actions.start != 0:
        raise ValueError(
            f"{id} has the action space {actions}, but offpol acts in Discrete spaces that start at 0: choose another "
            "env, or wrap it."
        )
    return EnvSpec(
        name=id,
        num_envs=num_envs,
        num_actions=int(actions.n),
        frame_shape=tuple(observations.shape),
        dtype=torch.uint8 if observations.dtype == np.uint8 else torch.float32,
        byte_high=max(1, int(observations.high.max())) if observations.dtype == np.uint8 else 255,
    )
