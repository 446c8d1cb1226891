"""stable-baselines3's DQN on CartPole-v1 with the settings tuned in rl-baselines3-zoo: one seed, one JSON line."""

from __future__ import annotations

import argparse
import json
import time

import gymnasium
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--agent-steps", type=int, default=50_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy", Monitor(gymnasium.make("CartPole-v1")), seed=arguments.seed, learning_rate=2.3e-3, batch_size=64,
        buffer_size=100_000, learning_starts=1000, gamma=0.99, target_update_interval=10, train_freq=256,
        gradient_steps=128, exploration_fraction=0.16, exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]}, device="cpu",
    )  # fmt: skip
    started = time.process_time()
    model.learn(arguments.agent_steps)
    cpu_s = time.process_time() - started
    env = Monitor(gymnasium.make("CartPole-v1"))
    env.reset(seed=10_000 + arguments.seed)
    scores, _ = evaluate_policy(model, env, n_eval_episodes=20, deterministic=True, return_episode_rewards=True)
    print(json.dumps({"seed": arguments.seed, "cpu_s": cpu_s, "score": sum(scores) / len(scores)}))


if __name__ == "__main__":
    main()
