"""A small chain of states whose optimal values are known: the oracle env of tests and first experiments."""

from __future__ import annotations

import numpy as np
import torch

from offpol.env_loop import check_actions
from offpol.types import EnvSpec, EnvStep, StateDict

LEFT, RIGHT = -1, 1
PIXELS_PER_STATE = 24


class Chain:
    """Walk from the left end of a chain to the goal at its right end, in E copies at once.

    State s = 0 .. length - 1; the last is the goal and terminal. Action 1 heads right in even states and left in
    odd ones, action 0 the other way, so no constant policy is good. With probability `slip` the walker goes the
    opposite way. Heading right from an even state pays `interior_reward`, from an odd one costs it; heading left
    costs 1.5 times as much, so walking in circles never pays. Reaching the goal pays `goal_reward` on top.
    Observations are one-hot float32 [length].

    Args:
        length: number of states S, the goal included; at least 2.
        slip: probability of going the opposite way, in [0, 1).
        interior_reward: see above.
        goal_reward: see above.
        time_limit_agent_steps: episodes are cut (truncated) here.

    Raises ValueError for values out of range.
    """

    def __init__(
        self, length: int, slip: float, interior_reward: float, goal_reward: float, time_limit_agent_steps: int, *,
        num_envs: int, seed: int,
    ) -> None:  # fmt: skip
        if length < 2:
            raise ValueError(f"length must be at least 2, but is {length}: a start and a goal.")
        if not 0 <= slip < 1:
            raise ValueError(f"slip must lie in [0, 1), but is {slip}: 0 means none.")
        if time_limit_agent_steps < 1:
            raise ValueError(f"time_limit_agent_steps must be at least 1, but is {time_limit_agent_steps}.")
        self.spec = EnvSpec(f"Chain-{length}", num_envs, 2, (length,), torch.float32)
        self._slip, self._goal_reward, self._time_limit = slip, goal_reward, time_limit_agent_steps
        even = np.arange(length) % 2 == 0
        self._heading = np.stack([np.where(even, LEFT, RIGHT), np.where(even, RIGHT, LEFT)], axis=1)  # [S, A]
        right_pays = np.where(even, interior_reward, -interior_reward)[:, None]
        self._pay = np.where(self._heading == RIGHT, right_pays, -1.5 * interior_reward)  # [S, A]
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._state = np.zeros(num_envs, dtype=np.int64)
        self._steps = np.zeros(num_envs, dtype=np.int64)  # of the current episode
        self._over = np.zeros(num_envs, dtype=bool)

    @property
    def _goal(self) -> int:
        return self.spec.frame_shape[0] - 1

    def reset(self) -> np.ndarray:
        """Put every walker at the left end and start the random numbers anew; return observations [E, S]."""
        self._rng = np.random.default_rng(self._seed)
        self._state[:], self._steps[:], self._over[:] = 0, 0, False
        return self._observe()

    def _observe(self) -> np.ndarray:
        return np.eye(self._goal + 1, dtype=np.float32)[self._state]

    def step(self, action: np.ndarray) -> EnvStep:
        """Step every walker by its action [E]; raise ValueError on actions that do not fit."""
        check_actions(action, self.spec)
        slipped = self._rng.random(self.spec.num_envs) < self._slip
        valid = ~self._over
        heading = np.where(slipped, -1, 1) * self._heading[self._state, action]
        reached = np.clip(self._state + heading, 0, self._goal)
        raw_reward = np.where(valid, self._pay[self._state, action] + self._goal_reward * (reached == self._goal), 0.0)
        self._state = np.where(valid, reached, 0)
        self._steps = np.where(valid, self._steps + 1, 0)
        terminated = self._state == self._goal
        truncated = (self._steps >= self._time_limit) & ~terminated
        self._over = terminated | truncated
        return EnvStep(
            obs=self._observe(), reward=raw_reward.astype(np.float32), raw_reward=raw_reward,
            terminated=terminated, truncated=truncated, valid=valid, game_over=self._over.copy(),
        )  # fmt: skip

    def transition_matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return P [S, A, S], the expected reward R [S, A] and the terminal states [S] (bool).

        The terminal state leads to itself for no reward. Time limits are not part of the MDP.
        """
        states = np.arange(self._goal + 1)
        terminal = states == self._goal
        transition = np.zeros((len(states), 2, len(states)))
        for action in range(2):
            for sign, probability in ((1, 1 - self._slip), (-1, self._slip)):
                reached = np.clip(states + sign * self._heading[:, action], 0, self._goal)
                transition[states, action, reached] += probability
        transition[terminal] = terminal
        reward = np.where(terminal[:, None], 0.0, self._pay + self._goal_reward * transition[:, :, self._goal])
        return transition, reward, terminal

    def optimal_q(self, gamma: float) -> np.ndarray:
        """Return Q* [S, A] in float64, by value iteration; zero in the terminal state. Needs gamma in [0, 1)."""
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma must lie in [0, 1) for value iteration to end, but is {gamma}.")
        transition, reward, _ = self.transition_matrices()
        q, change = np.zeros_like(reward), np.inf
        while change > 1e-14 * max(1.0, np.abs(q).max()):
            better = reward + gamma * transition @ q.max(axis=1)
            q, change = better, np.abs(better - q).max()
        return q

    def render(self) -> np.ndarray:
        """Picture env 0: a strip with the walker in white and the goal in green, RGB uint8."""
        strip = np.full((1, self._goal + 1, 3), 40, dtype=np.uint8)
        strip[0, self._goal] = (0, 160, 0)
        strip[0, self._state[0]] = 255
        return strip.repeat(PIXELS_PER_STATE, axis=0).repeat(PIXELS_PER_STATE, axis=1)

    def state_dict(self) -> StateDict:
        """Where every walker stands, and the random numbers' state."""
        return {
            "state": self._state.tolist(),
            "steps": self._steps.tolist(),
            "over": self._over.tolist(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on exactly from where `state_dict` was taken."""
        self._state, self._steps = np.array(state["state"]), np.array(state["steps"])
        self._over = np.array(state["over"])
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Nothing to release."""
