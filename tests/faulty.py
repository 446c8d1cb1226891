"""A chain that fails once it has been stepped so often, for tests that start whole runs."""

import os
import signal
import time
from pathlib import Path
from typing import Literal

import numpy as np

from offpol.env.chain import Chain
from offpol.types import EnvStep


class Faulty(Chain):
    """Raise, sleep for ever, or die at step `at_step`; once only, where `marker` names a file to remember it by."""

    def __init__(
        self, length: int, slip: float, interior_reward: float, goal_reward: float, time_limit_agent_steps: int,
        fault: Literal["raise", "sleep", "die"], at_step: int, marker: str | None, *, num_envs: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(
            length, slip, interior_reward, goal_reward, time_limit_agent_steps, num_envs=num_envs, seed=seed
        )
        self.fault, self.at_step, self.marker, self.steps = fault, at_step, marker and Path(marker), 0

    def step(self, action: np.ndarray) -> EnvStep:
        self.steps += 1
        if self.steps == self.at_step and not (self.marker and self.marker.exists()):
            if self.marker:
                self.marker.touch()
            self._fail()
        return super().step(action)

    def _fail(self) -> None:
        if self.fault == "raise":
            raise OSError("the emulator broke")
        if self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1e6)
