"""MinAtar (Young & Tian 2019): five Atari games shrunk to 10x10 binary images."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch

from offpol.drawing import paint
from offpol.env_loop import EnvLoop
from offpol.errors import ConfigError, install
from offpol.types import EnvSpec

PIXELS_PER_CELL = 16
ACTION_NAMES = {"n": "no-op", "l": "left", "u": "up", "r": "right", "d": "down", "f": "fire"}


class MinAtar(EnvLoop):
    """E copies of one MinAtar game; observations are uint8 [C, 10, 10] of zeros and ones.

    Args:
        game: which of the five.
        sticky_probability: of taking the previous action instead of the chosen one.
        difficulty_ramping: the game gets faster as it is played (asterix, seaquest, space_invaders).
        minimal_actions: offer only the actions that do something in this game, not all six.
        time_limit_agent_steps: cut episodes here, as truncated.

    Raises ConfigError where the package `minatar` is missing, ValueError for values out of range.
    """

    def __init__(
        self, game: Literal["breakout", "asterix", "freeway", "seaquest", "space_invaders"],
        sticky_probability: float, difficulty_ramping: bool, minimal_actions: bool, time_limit_agent_steps: int, *,
        num_envs: int, seed: int,
    ) -> None:  # fmt: skip
        if not 0 <= sticky_probability < 1:
            raise ValueError(f"sticky_probability must lie in [0, 1), but is {sticky_probability}: 0.1 is usual.")
        if time_limit_agent_steps < 1:
            raise ValueError(f"time_limit_agent_steps must be at least 1, but is {time_limit_agent_steps}.")
        module = _load_game(game)
        games = [module.Env(ramping=difficulty_ramping) for _ in range(num_envs)]
        height, width, channels = games[0].state_shape()
        actions = games[0].minimal_action_set() if minimal_actions else range(len(games[0].action_map))
        spec = EnvSpec(
            f"MinAtar-{game}", num_envs, len(actions), (channels, height, width), torch.uint8, byte_high=1,
            action_names=tuple(ACTION_NAMES[games[0].action_map[action]] for action in actions),
        )  # fmt: skip
        envs = [_Game(game, list(actions), sticky_probability, time_limit_agent_steps) for game in games]
        super().__init__(envs, spec, seed)


class _Game:
    """One MinAtar game with gymnasium's interface; its seed decides the whole episode."""

    def __init__(self, game: Any, actions: list[int], sticky_probability: float, time_limit: int) -> None:
        self.game, self.actions = game, actions
        self.sticky_probability, self.time_limit = sticky_probability, time_limit
        self.random = self.game.random = np.random.RandomState()  # one generator for both, as in minatar.Environment
        self.last_action = self.steps = 0

    def reset(self, *, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        self.random.seed(seed)
        self.game.reset()
        self.last_action = self.steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.random.rand() >= self.sticky_probability:
            self.last_action = self.actions[action]
        reward, terminated = self.game.act(self.last_action)
        self.steps += 1
        return self._observe(), float(reward), bool(terminated), self.steps >= self.time_limit, {}

    def _observe(self) -> np.ndarray:
        obs: np.ndarray = self.game.state().transpose(2, 0, 1)
        return obs

    def render(self) -> np.ndarray:
        return paint(self._observe()).repeat(PIXELS_PER_CELL, axis=0).repeat(PIXELS_PER_CELL, axis=1)

    def close(self) -> None:
        """Nothing to release."""


def _load_game(game: str) -> ModuleType:
    """Load one game's file alone: importing the package pulls in pyplot and sets up the root logger."""
    package = importlib.util.find_spec("minatar")
    if package is None or package.origin is None:
        raise ConfigError(f"MinAtar is not installed: {install('minatar')}.")
    path = Path(package.origin).parent / "environments" / f"{game}.py"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("[a-z]*.py")))
        raise ValueError(f"game must be one of {known}, but is {game}.")
    spec = importlib.util.spec_from_file_location(f"minatar_{game}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
