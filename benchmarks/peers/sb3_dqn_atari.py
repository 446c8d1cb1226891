"""stable-baselines3's DQN on an Atari game, doing the work of `benchmarks/end_to_end.py`; one JSON line."""

from __future__ import annotations

import argparse
import json
import resource
import time

import ale_py
import gymnasium
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack


class Stopwatch(BaseCallback):
    """Note the time of the first step after learning began, and of the last."""

    def __init__(self, begin: int) -> None:
        super().__init__()
        self.begin, self.first = begin, (0, 0.0, 0.0)

    def _on_step(self) -> bool:
        if not self.first[0] and self.num_timesteps >= self.begin:
            self.first = (self.num_timesteps, time.perf_counter(), time.process_time())
        self.last = (self.num_timesteps, time.perf_counter(), time.process_time())
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--agent-steps", type=int, required=True)
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env(f"{arguments.game}NoFrameskip-v4", n_envs=arguments.envs, seed=0), 4)
    model = DQN(
        "CnnPolicy", env, buffer_size=100_000, learning_starts=1000, batch_size=32, train_freq=1,
        gradient_steps=arguments.envs // 4, target_update_interval=4000, exploration_fraction=1e-6,
        exploration_final_eps=0.05, learning_rate=1e-4, device="cpu",
    )  # fmt: skip
    watch = Stopwatch(begin=1500)
    model.learn(arguments.agent_steps, callback=watch)
    steps, seconds, cpu_s = (last - first for last, first in zip(watch.last, watch.first, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({
        "agent_steps_per_s": steps / seconds, "cpu_ms_per_agent_step": 1000 * cpu_s / steps,
        "updates": model._n_updates, "peak_memory_mb": peak,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
