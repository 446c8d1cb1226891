"""What a replay gives back of an Atari game is what the actor saw, bit for bit."""

import numpy as np
import pytest
import torch
import yaml
from env_factory import make

from offpol.actor import Actor
from offpol.config import conf_dir
from offpol.memory.ring import Ring
from offpol.memory.windows import gather

ATARI_100K = yaml.safe_load((conf_dir() / "suite" / "atari100k.yaml").read_text())["games"]
ENVS, WINDOW = 2, 3


class AtRandom:
    """A behavior, and the values it needs, that play at random."""

    def __init__(self, actions: int) -> None:
        self.actions = actions

    def probs(self, q: torch.Tensor, pi: torch.Tensor, agent_steps: int) -> torch.Tensor:
        return pi

    def values(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(obs), self.actions), torch.full((len(obs), self.actions), 1 / self.actions)


def check_all_stacks(game: str, steps: int, rows: int, max_frames: int) -> None:
    """Play until the ring has been written more than once; compare every stack of every window, full and at the end."""
    env = make("atari", f"env.game={game}", "env/preset=atari100k", f"env.protocol.max_frames_per_episode={max_frames}",
               num_envs=ENVS)  # fmt: skip
    at_random = AtRandom(env.spec.num_actions)
    actor = Actor(env, at_random, at_random.values, seed=0)
    ring = Ring(ENVS * rows, spec=env.spec, window=WINDOW)
    seen: list[np.ndarray] = []
    for step in range(steps):
        seen.append(actor.obs.copy())
        ring.add(actor.step(actor.act(step, policy_version=step))[0])
        if step + 1 in (rows, steps):
            compare_stacks(ring, seen)
    env.close()


def compare_stacks(ring: Ring, seen: list[np.ndarray]) -> None:
    """Compare those of every window of a ring that is full with what was seen at every step."""
    slots = np.flatnonzero(ring.drawable(np.arange(ring.size)))
    batch = gather(ring, slots, np.ones(len(slots), np.float32), np.ones(len(slots), np.float32))
    assert len(slots) > 0.9 * ring.size
    assert not batch.valid.all()  # some cross the end of an episode
    first = batch.policy_version[:, 0].numpy()  # the number of the step
    for t in range(WINDOW + 1):
        wanted = np.stack(
            [seen[step + t][slot // ring.rows_per_stream] for step, slot in zip(first, slots, strict=True)]
        )
        np.testing.assert_array_equal(batch.obs[:, t].numpy(), wanted)


def test_stacks_equal_what_the_actor_saw() -> None:
    check_all_stacks("Pong", steps=300, rows=120, max_frames=200)


@pytest.mark.slow
@pytest.mark.parametrize("game", ATARI_100K)
def test_stacks_of_every_atari_100k_game_equal_what_the_actor_saw(game: str) -> None:
    """A thousand random steps; a limit of frames cuts episodes, so that stacks begin anew a few times."""
    check_all_stacks(game, steps=1000, rows=600, max_frames=1000)
