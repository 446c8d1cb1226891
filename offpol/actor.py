"""Actor: an env and a behavior; what it logs is exactly what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from offpol.actions import draw, require_distributions
from offpol.contracts.envs import require_new_episode
from offpol.guard import require_finite, require_finite_start
from offpol.types import Behavior, Env, EnvStep, Rows, StateDict

Values = Callable[[Tensor], tuple[Tensor, Tensor]]


class Decision(NamedTuple):
    """Actions for every env, with what must be logged about how they were chosen."""

    action: np.ndarray  # [E] int64
    log_prob: np.ndarray  # [E] float32, of the very distribution the action was drawn from
    policy_version: int


class Episode(NamedTuple):
    """One finished full game: raw score and length in agent steps."""

    stream: int
    episode_return: float
    length_agent_steps: int


class Actor:
    """Steps E envs by a behavior over the values of a model.

    Args:
        env: stepped by this actor alone.
        behavior: turns values into a distribution over actions.
        values: maps observations [E, *obs_shape] to Q(s, .) and pi(.|s), both [E, A] on the CPU.
        seed: of the draws.
    """

    def __init__(self, env: Env, behavior: Behavior, values: Values, *, seed: int) -> None:
        self.env, self.behavior, self.values = env, behavior, values
        self.rng = np.random.default_rng(seed)
        self.obs = env.reset()
        require_finite_start(env.spec.name, self.obs)
        self._agent_steps = 0  # at the newest decision
        self._over = np.zeros(env.spec.num_envs, dtype=bool)  # the next step begins an episode; not saved, only checked
        self.episode_return = np.zeros(env.spec.num_envs)
        self.episode_length = np.zeros(env.spec.num_envs, dtype=np.int64)

    def act(self, agent_steps: int, policy_version: int, values: Values | None = None) -> Decision:
        """Choose an action for every env, by the parameters of update number `policy_version`.

        `values` evaluates these parameters; by default what the actor was built with.
        """
        self._agent_steps = agent_steps
        q, pi = (values or self.values)(torch.from_numpy(self.obs))
        require_distributions(pi.numpy(), "The policy", agent_steps)
        probs = self.behavior.probs(q, pi, agent_steps).numpy()
        require_distributions(probs, f"The behavior {type(self.behavior).__name__}", agent_steps)
        action, log_prob = draw(probs, self.rng)
        return Decision(action, log_prob, policy_version)

    def step(self, decision: Decision) -> tuple[Rows, list[Episode]]:
        """Take the decision; return one row per stream and the games that ended. Raises NotFinite or as the env did."""
        try:
            outcome = self.env.step(decision.action)
        except Exception as error:
            error.add_note(f"{self.env.spec.name} raised this at agent step {self._agent_steps:,}.")
            raise
        require_finite(self.env.spec.name, outcome, decision.action, self.obs)
        require_new_episode(self.env.spec.name, self._over, outcome)
        self._over = (outcome.truncated | outcome.game_over) & outcome.valid
        newest = self.obs[:, -1] if self.env.spec.stack > 1 else self.obs
        rows = Rows(
            obs=newest,
            action=decision.action,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            valid=outcome.valid,
            behavior_log_prob=decision.log_prob,
            policy_version=np.full(len(newest), decision.policy_version),
        )
        self.obs = outcome.obs
        return rows, self._finished(outcome)

    def _finished(self, outcome: EnvStep) -> list[Episode]:
        self.episode_return += outcome.raw_reward
        self.episode_length += outcome.valid
        episodes = []
        for stream in np.flatnonzero(outcome.game_over):
            score, length = float(self.episode_return[stream]), int(self.episode_length[stream])
            episodes.append(Episode(int(stream), score, length))
            self.episode_return[stream] = self.episode_length[stream] = 0
        return episodes

    def close(self) -> None:
        """Release the env."""
        self.env.close()

    def state_dict(self) -> StateDict:
        """Everything to go on exactly from here, the env included."""
        return {
            "env": self.env.state_dict(),
            "rng": self.rng.bit_generator.state,
            "obs": torch.from_numpy(self.obs.copy()),
            "episode_return": torch.from_numpy(self.episode_return.copy()),
            "episode_length": torch.from_numpy(self.episode_length.copy()),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from where `state_dict` was taken."""
        self.env.load_state_dict(state["env"])
        self.rng.bit_generator.state = state["rng"]
        self.obs = state["obs"].numpy().copy()
        self.episode_return = state["episode_return"].numpy().copy()
        self.episode_length = state["episode_length"].numpy().copy()
