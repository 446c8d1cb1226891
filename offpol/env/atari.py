"""Atari 2600 games in ALE's C++ vector env, with every choice of the protocol explicit and exact resuming."""

from __future__ import annotations

import zlib
from dataclasses import replace

import ale_py
import numpy as np
import torch

from offpol.atari_protocol import AtariProtocol, build_emulators, rom_name, title
from offpol.env_loop import check_actions
from offpol.errors import RunError
from offpol.seeding import seed_for
from offpol.types import EnvSpec, EnvStep, StateDict

SCREEN_HEIGHT, SCREEN_WIDTH = 210, 160  # of the console


class Atari:
    """E copies of one game; observations are uint8 [E, stack, H, W] (without the stack axis for stack 1).

    A lost life never restarts the game. The emulators cannot be saved, so each env keeps an *anchor* (the seed of a
    game that was started afresh from it) and the actions since; once these are many, the next new game is seeded
    anew and becomes the anchor. Loading a checkpoint plays from the anchors to the saved step.

    Args:
        game: e.g. Breakout, MsPacman; also ms_pacman.
        num_threads: of the emulators; 0 for one per env, at most one per core. Results do not depend on it.
        anchor_agent_steps: steps of an env after which its next new game is anchored. Bounds how long loading takes;
            anchoring costs about 0.1 s a time.
        protocol: see AtariProtocol.

    Raises ValueError for an unknown game and values out of range.
    """

    def __init__(
        self, game: str, num_threads: int, anchor_agent_steps: int, protocol: AtariProtocol, *, num_envs: int,
        seed: int,
    ) -> None:  # fmt: skip
        if num_threads < 0:
            raise ValueError(f"num_threads must be 0 (one per env) or more, but is {num_threads}.")
        if anchor_agent_steps < 1:
            raise ValueError(f"anchor_agent_steps must be at least 1, but is {anchor_agent_steps}: 10000 is usual.")
        self.protocol = protocol
        self._rom, self._seed, self._anchor_agent_steps = rom_name(game), seed, anchor_agent_steps
        side = protocol.screen_size
        self._emulators = build_emulators(self._rom, protocol, side, side, num_envs=num_envs, num_threads=num_threads)
        self.spec = EnvSpec(
            name=title(self._rom),
            num_envs=num_envs,
            num_actions=int(self._emulators.single_action_space.n),
            frame_shape=(side, side) if protocol.grayscale else (3, side, side),
            dtype=torch.uint8,
            stack=protocol.stack,
            frames_per_agent_step=protocol.frame_skip,
            action_names=tuple(action.name for action in self._emulators.ale.get_action_set()),
            evaluation_epsilon=protocol.evaluation_epsilon,
        )
        self._camera: _Camera | None = None
        self._anchors = np.full(num_envs, -1)  # [E] number of anchors so far, from 0; -1: not yet reset
        self._start = np.zeros(num_envs, dtype=np.int64)  # [E] row of the log where the anchor stands
        self._log = bytearray()  # actions of all envs, E bytes a step, from the oldest anchor on
        self._lives = np.zeros(num_envs, dtype=np.int32)
        self._over = np.zeros(num_envs, dtype=bool)  # the next step starts a new game

    # ------------------------------------------------------------------------------------------ playing

    def reset(self) -> np.ndarray:
        """Start the first game of every env; called again, it starts the same first games again."""
        self._anchors[:], self._start[:] = 0, 0
        self._log.clear()
        return self._shape(self._restart(np.ones(self.spec.num_envs, dtype=bool)))

    def step(self, action: np.ndarray) -> EnvStep:
        """Step every env by its action [E]; where a game is over, start the next one instead.

        Raises ValueError on actions that do not fit (the emulators would wait for ever) and RuntimeError before the
        first reset.
        """
        self._require_reset()
        self._log += bytes(check_actions(action, self.spec))
        begins, lives = self._over, self._lives
        now = self._logged_steps()
        due = begins & (now - self._start >= self._anchor_agent_steps)
        self._anchors[due] += 1
        self._start[due] = now
        obs, raw_reward, game_over, truncated = self._advance(action, due)
        if due.any():
            self._forget()
        terminated = game_over
        if self.protocol.life_loss == "terminates":
            terminated = game_over | (~begins & (self._lives < lives))
        clipped = np.clip(raw_reward, -1, 1) if self.protocol.reward_clipping else raw_reward
        return EnvStep(
            obs=self._shape(obs), reward=clipped.astype(np.float32), raw_reward=raw_reward.astype(np.float64),
            terminated=terminated, truncated=truncated, valid=~begins, game_over=game_over | truncated,
        )  # fmt: skip

    def _advance(self, action: np.ndarray, anchored: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step the emulators, then restart those in `anchored` [E] (bool), whose game has just begun anyway."""
        obs, raw_reward, game_over, truncated, info = self._emulators.step(action.astype(np.int64, copy=False))
        self._lives, self._over = info["lives"], game_over | truncated
        if anchored.any():
            obs = self._restart(anchored)
        return obs, raw_reward, game_over, truncated

    def _restart(self, mask: np.ndarray) -> np.ndarray:
        """Load the game afresh where mask [E] says so, from the anchors' seeds; return the observations of all."""
        seeds = np.array([self._anchor_seed(int(stream)) for stream in np.flatnonzero(mask)])
        obs: np.ndarray
        obs, info = self._emulators.reset(seed=seeds, options={"reset_mask": mask})
        self._lives, self._over = info["lives"], self._over & ~mask
        return obs

    def _anchor_seed(self, stream: int) -> int:
        return seed_for(self._seed, f"games of env {stream}", int(self._anchors[stream]))

    def _shape(self, obs: np.ndarray) -> np.ndarray:
        if not self.protocol.grayscale:
            obs = np.ascontiguousarray(np.moveaxis(obs, -1, 2))
        return obs[:, 0] if self.protocol.stack == 1 else obs

    def _require_reset(self) -> None:
        if self._anchors[0] < 0:
            raise RuntimeError(f"{self.spec.name} has not been started: call reset() first")

    def _logged_steps(self) -> int:
        return len(self._log) // self.spec.num_envs

    def _forget(self) -> None:
        """Drop the log from before the oldest anchor."""
        unused = int(self._start.min())
        del self._log[: unused * self.spec.num_envs]
        self._start -= unused

    def _history(self) -> np.ndarray:
        """Return a copy of the logged actions [steps, E] uint8."""
        return np.array(self._log, dtype=np.uint8).reshape(-1, self.spec.num_envs)

    # ----------------------------------------------------------------------------------------- resuming

    def state_dict(self) -> StateDict:
        """The anchors, the actions since, and a checksum of the observations they have led to."""
        self._require_reset()
        return {
            "anchors": self._anchors.tolist(),
            "start": self._start.tolist(),
            "log": torch.from_numpy(self._history()),
            "checksum": self._checksum(),
            "ale_py": ale_py.__version__,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Play from the anchors to the saved step; raise RunError where that leads to other observations."""
        history = state["log"].numpy()
        self._anchors, self._start = np.array(state["anchors"]), np.array(state["start"])
        self._log = bytearray(history.tobytes())
        self._camera = None
        # Anchors stand at different steps: until its own comes, an env plays what does not matter.
        self._restart(np.ones(self.spec.num_envs, dtype=bool))
        for step, action in enumerate(history, start=1):
            self._advance(action, self._start == step)
        if self._checksum() != state["checksum"]:
            raise RunError(
                f"{self.spec.name} cannot go on from the checkpoint: playing the saved actions again led to another "
                f"screen; check that env, seed and ale-py (saved with {state['ale_py']}, this is "
                f"{ale_py.__version__}) are the same."
            )

    def _checksum(self) -> int:
        nothing = np.zeros(self.spec.num_envs, dtype=bool)
        obs, _ = self._emulators.reset(seed=np.zeros(0, dtype=np.int64), options={"reset_mask": nothing})
        return zlib.crc32(obs)

    # ------------------------------------------------------------------------------------------ looking

    def render(self) -> np.ndarray:
        """Picture env 0 as on a television: RGB uint8 [210, 160, 3]. A second emulator follows the first."""
        self._require_reset()
        if self._camera is None:
            self._camera = _Camera(self._rom, self.protocol)
        return self._camera.follow(self._anchor_seed(0), self._history()[self._start[0] :, 0])

    def close(self) -> None:
        """Stop the emulators' threads."""
        if not self._emulators.closed:
            self._emulators.close()
            del self._emulators.ale  # the threads end with it
        self._camera = None


class _Camera:
    """An emulator in color and full size that repeats what another one plays."""

    def __init__(self, rom: str, protocol: AtariProtocol) -> None:
        colored = replace(protocol, grayscale=False, stack=1)
        self._emulator = build_emulators(rom, colored, SCREEN_HEIGHT, SCREEN_WIDTH, num_envs=1, num_threads=1)
        self._seed, self._steps = -1, 0
        self._picture = np.zeros((SCREEN_HEIGHT, SCREEN_WIDTH, 3), dtype=np.uint8)

    def follow(self, seed: int, actions: np.ndarray) -> np.ndarray:
        """Return the picture after these actions [steps], played since a start from this seed."""
        if seed != self._seed or len(actions) < self._steps:
            self._picture = self._emulator.reset(seed=seed)[0][0, 0]
            self._seed, self._steps = seed, 0
        for action in actions[self._steps :, None].astype(np.int64):
            self._picture = self._emulator.step(action)[0][0, 0]
        self._steps = len(actions)
        return self._picture.copy()
