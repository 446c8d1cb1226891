"""Single envs stepped one after another as one `Env` that can be brought back exactly.

No simulator needs to save its state: an episode is its seed and its actions, so going on from a checkpoint means
playing the current episode again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from offpol.errors import RunError
from offpol.seeding import seed_for
from offpol.types import EnvSpec, EnvStep, StateDict


class SingleEnv(Protocol):
    """One env with gymnasium's interface; an episode is determined by its seed and its actions."""

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]: ...

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]: ...

    def render(self) -> Any: ...

    def close(self) -> None: ...


def check_actions(action: np.ndarray, spec: EnvSpec) -> list[int]:
    """Return actions [E] as a list, or raise ValueError where shape, type or range do not fit the env."""
    if action.shape != (spec.num_envs,) or action.dtype.kind not in "iu":
        raise ValueError(
            f"{spec.name} takes {spec.num_envs} integer actions, one per env, not an array of shape {action.shape} "
            f"and type {action.dtype}"
        )
    actions: list[int] = action.tolist()
    if min(actions) < 0 or max(actions) >= spec.num_actions:
        raise ValueError(f"{spec.name} has actions 0 to {spec.num_actions - 1}, but was given {actions}")
    return actions


class EnvLoop:
    """Step E single envs in a loop, with NEXT_STEP autoreset and a chosen seed for every episode.

    Args:
        envs: what to step, already built.
        spec: describes them; observations are cast to its dtype.
        seed: the root of all episodes' seeds.
        reward_clipping: learn from rewards clipped to [-1, 1]; scores stay raw.
    """

    def __init__(self, envs: Sequence[SingleEnv], spec: EnvSpec, seed: int, reward_clipping: bool = False) -> None:
        self.spec, self.reward_clipping = spec, reward_clipping
        self._envs = list(envs)
        self._seed = seed
        self._obs = np.zeros((spec.num_envs, *spec.obs_shape), torch.empty(0, dtype=spec.dtype).numpy().dtype)
        self._episode = [-1] * spec.num_envs  # number of the current episode of each env; -1: not yet reset
        self._actions: list[list[int]] = [[] for _ in self._envs]  # taken since the current episode's start
        self._over = [False] * spec.num_envs  # the next step starts a new episode
        self._outcomes = [0] * spec.num_envs  # checksum of the current episode's rewards and ends

    def reset(self) -> np.ndarray:
        """Start the first episode of every env; called again, it starts the same first episodes again."""
        for stream in range(self.spec.num_envs):
            self._begin(stream, episode=0)
        return self._obs.copy()

    def _begin(self, stream: int, episode: int) -> None:
        self._episode[stream], self._actions[stream], self._over[stream] = episode, [], False
        self._outcomes[stream] = 0
        seed = seed_for(self._seed, f"episodes of env {stream}", episode)
        try:
            begun = self._envs[stream].reset(seed=seed)
            if not (isinstance(begun, tuple) and len(begun) == 2 and isinstance(begun[1], dict)):
                raise TypeError(f"{self.spec.name}'s reset must return (observation, info), but returned {begun!r:.80}")
            self._see(stream, begun[0])
        except Exception as error:
            self._name(error, stream)
            raise

    def _stepped(self, stream: int, action: int) -> tuple[float, bool, bool]:
        """Step an env, keep what it shows; return its reward, and whether its episode terminated or was truncated."""
        stepped = self._envs[stream].step(action)
        if not (isinstance(stepped, tuple | list) and len(stepped) == 5 and stepped[1] is not None):
            raise TypeError(
                f"{self.spec.name}'s step must return (observation, reward, terminated, truncated, info), but returned "
                f"{stepped!r:.80}"
            )
        obs, reward, terminated, truncated = stepped[:4]
        self._see(stream, obs)
        self._over[stream] = bool(terminated or truncated)
        self._actions[stream].append(action)
        outcome = struct.pack("d??", reward, terminated, truncated)
        self._outcomes[stream] = zlib.crc32(outcome, self._outcomes[stream])
        return reward, terminated, truncated

    def _name(self, error: Exception, stream: int) -> None:
        error.add_note(f"That was env {stream} of 0 to {self.spec.num_envs - 1}.")

    def _see(self, stream: int, obs: Any) -> None:
        """Keep an observation; raise TypeError where it is not what the env says that its observations are."""
        seen, own = np.asarray(obs), self._obs[stream]
        if seen.shape != own.shape or not np.can_cast(seen.dtype, own.dtype, "same_kind"):
            raise TypeError(
                f"{self.spec.name} gave an observation of shape {seen.shape} and type {seen.dtype}, but says that they "
                f"are {own.shape} and {own.dtype}: correct its observation space, or what it returns"
            )
        own[...] = seen

    def step(self, action: np.ndarray) -> EnvStep:
        """Step every env by its action [E]; where an episode is over, start the next one instead.

        Raises ValueError on actions that do not fit and RuntimeError before the first reset.
        """
        self._require_reset()
        num_envs = self.spec.num_envs
        raw_reward = np.zeros(num_envs)
        terminated, truncated = np.zeros(num_envs, dtype=bool), np.zeros(num_envs, dtype=bool)
        valid = np.logical_not(self._over)
        for stream, chosen in enumerate(check_actions(action, self.spec)):
            if self._over[stream]:
                self._begin(stream, self._episode[stream] + 1)
                continue
            try:
                raw_reward[stream], terminated[stream], truncated[stream] = self._stepped(stream, chosen)
            except Exception as error:
                self._name(error, stream)
                raise
        reward = raw_reward.clip(-1, 1) if self.reward_clipping else raw_reward
        return EnvStep(
            obs=self._obs.copy(), reward=reward.astype(np.float32), raw_reward=raw_reward,
            terminated=terminated, truncated=truncated, valid=valid, game_over=terminated | truncated,
        )  # fmt: skip

    def _require_reset(self) -> None:
        if self._episode[0] < 0:
            raise RuntimeError(f"{self.spec.name} has not been started: call reset() first")

    def render(self) -> np.ndarray:
        """Picture env 0: RGB uint8 [height, width, 3]."""
        self._require_reset()
        return np.asarray(self._envs[0].render(), dtype=np.uint8)

    def state_dict(self) -> StateDict:
        """The current episodes' numbers and actions, and checksums of where they have led."""
        self._require_reset()
        return {
            "episode": list(self._episode),
            "actions": [torch.tensor(actions, dtype=torch.int32) for actions in self._actions],
            "checksum": zlib.crc32(self._obs.tobytes()),
            "outcomes": list(self._outcomes),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Play the saved episodes again up to where they were; raise RunError where that leads elsewhere."""
        for stream, (episode, actions) in enumerate(zip(state["episode"], state["actions"], strict=True)):
            self._begin(stream, episode)
            for chosen in actions.tolist():
                self._stepped(stream, chosen)
        other = "observations" if zlib.crc32(self._obs.tobytes()) != state["checksum"] else None
        if not other and self._outcomes != state.get("outcomes", self._outcomes):  # which older checkpoints lack
            other = "rewards or ends"
        if other:
            raise RunError(
                f"{self.spec.name} cannot go on from the checkpoint: playing the saved actions again led to other "
                f"{other}, so the env, its version or its arguments changed, or its episodes do not follow from their "
                "seeds (as under a wrapper that keeps statistics of earlier episodes): resume with what the run was "
                "made with (info.json), or begin a new one."
            )

    def close(self) -> None:
        """Close every env."""
        for env in self._envs:
            env.close()
