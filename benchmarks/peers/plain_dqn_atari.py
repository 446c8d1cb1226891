"""DQN on an Atari game as one plain script, in the manner of CleanRL's dqn_atari: one env, stacks stored twice.

It does the work of `benchmarks/end_to_end.py` with nothing between the loop and torch: gymnasium's wrappers, a replay
of preallocated arrays, Adam, and an update after every fourth step. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import ale_py
import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import AtariPreprocessing, ClipReward, FrameStackObservation
from torch import nn

CAPACITY, BATCH_SIZE, GAMMA, EPSILON = 100_000, 32, 0.99, 0.05


class Network(nn.Module):
    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, num_actions),
        )  # fmt: skip

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layers(obs / 255.0)


class Replay:
    def __init__(self, rng: np.random.Generator) -> None:
        self.obs, self.next_obs = (np.zeros((CAPACITY, 4, 84, 84), np.uint8) for _ in range(2))
        self.action, self.reward = np.zeros(CAPACITY, np.int64), np.zeros(CAPACITY, np.float32)
        self.done, self.size, self.rng = np.zeros(CAPACITY, np.float32), 0, rng

    def add(self, obs: np.ndarray, next_obs: np.ndarray, action: int, reward: float, done: bool) -> None:
        slot = self.size % CAPACITY
        self.obs[slot], self.next_obs[slot] = obs, next_obs
        self.action[slot], self.reward[slot], self.done[slot] = action, reward, done
        self.size += 1

    def sample(self) -> list[torch.Tensor]:
        drawn = self.rng.integers(min(self.size, CAPACITY), size=BATCH_SIZE)
        fields = (self.obs, self.next_obs, self.action, self.reward, self.done)
        return [torch.from_numpy(field[drawn]) for field in fields]


def update(network: Network, target: Network, optimizer: torch.optim.Optimizer, batch: list[torch.Tensor]) -> None:
    obs, next_obs, action, reward, done = batch
    with torch.no_grad():
        returns = reward + GAMMA * target(next_obs).max(1).values * (1 - done)
    values = network(obs).gather(1, action.unsqueeze(1)).squeeze(1)
    loss = nn.functional.mse_loss(values, returns)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--agent-steps", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    gymnasium.register_envs(ale_py)
    env = gymnasium.make(f"{arguments.game}NoFrameskip-v4")
    env = FrameStackObservation(ClipReward(AtariPreprocessing(env, terminal_on_life_loss=True), -1, 1), 4)
    rng = np.random.default_rng(0)
    network, target = (Network(int(env.action_space.n)) for _ in range(2))
    target.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    replay, updates, first = Replay(rng), 0, (0, 0.0, 0.0)
    obs = env.reset(seed=0)[0]
    for step in range(1, arguments.agent_steps + 1):
        if rng.random() < EPSILON:
            action = int(rng.integers(env.action_space.n))
        else:
            with torch.no_grad():
                action = int(network(torch.from_numpy(obs).unsqueeze(0)).argmax())
        next_obs, reward, terminated, truncated, _ = env.step(action)
        replay.add(obs, next_obs, action, float(reward), terminated)
        obs = env.reset()[0] if terminated or truncated else next_obs
        if step > 1000 and step % 4 == 0:
            update(network, target, optimizer, replay.sample())
            updates += 1
            if updates % 1000 == 0:
                target.load_state_dict(network.state_dict())
        if step == 1500:
            first = (step, time.perf_counter(), time.process_time())
    steps, seconds, cpu_s = (
        now - then for now, then in zip((step, time.perf_counter(), time.process_time()), first, strict=True)
    )
    print(json.dumps({
        "agent_steps_per_s": steps / seconds, "cpu_ms_per_agent_step": 1000 * cpu_s / steps,
        "updates": updates, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
