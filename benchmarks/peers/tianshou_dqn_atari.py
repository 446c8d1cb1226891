"""tianshou's DQN on an Atari game, doing the work of `benchmarks/end_to_end.py`; one JSON line.

Its own replay (frames once), collector and algorithm, with gymnasium's wrappers for the envs and the Nature network as
its examples write it.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import ale_py
import gymnasium
import torch
from gymnasium.wrappers import AtariPreprocessing, ClipReward, FrameStackObservation
from tianshou.algorithm.algorithm_base import policy_within_training_step
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from torch import nn


class Network(nn.Module):
    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, num_actions),
        )  # fmt: skip

    def forward(self, obs: object, state: object = None, info: object = None) -> tuple[torch.Tensor, object]:
        return self.layers(torch.as_tensor(obs, dtype=torch.float32) / 255.0), state


def maker(game: str) -> Callable[[], gymnasium.Env]:
    def make() -> gymnasium.Env:
        env = AtariPreprocessing(gymnasium.make(f"{game}NoFrameskip-v4"), terminal_on_life_loss=True)
        return FrameStackObservation(ClipReward(env, -1, 1), 4)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--agent-steps", type=int, required=True)
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    gymnasium.register_envs(ale_py)
    envs = DummyVectorEnv([maker(arguments.game)] * arguments.envs)
    actions = envs.action_space[0]
    policy = DiscreteQLearningPolicy(model=Network(int(actions.n)), action_space=actions, eps_training=0.05)
    algorithm = DQN(
        policy=policy, optim=AdamOptimizerFactory(lr=1e-4), gamma=0.99, target_update_freq=1000, is_double=False,
    )  # fmt: skip
    replay = VectorReplayBuffer(100_000, arguments.envs, stack_num=4, ignore_obs_next=True, save_only_last_obs=True)
    collector = Collector(algorithm, envs, replay, exploration_noise=True)
    collector.reset()
    steps = updates = 0
    first = (0, 0.0, 0.0)
    with policy_within_training_step(policy):
        while steps < arguments.agent_steps:
            collector.collect(n_step=arguments.envs)
            steps += arguments.envs
            for _ in range(arguments.envs // 4 if steps > 1000 else 0):
                algorithm.update(replay, 32)
                updates += 1
            if not first[0] and steps >= 1500:
                first = (steps, time.perf_counter(), time.process_time())
    took = [now - then for now, then in zip((steps, time.perf_counter(), time.process_time()), first, strict=True)]
    print(json.dumps({
        "agent_steps_per_s": took[0] / took[1], "cpu_ms_per_agent_step": 1000 * took[2] / took[0],
        "updates": updates, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
