"""Golden trajectories: what each named preset plays, to the bit, under one version of ale-py.

A failure means that scores before and after cannot be compared. After a wanted change (a new ale-py, a corrected
preset) look at what changed and why, then write the file anew: python tests/env/test_atari_golden.py
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import ale_py
import numpy as np
import pytest
from env_factory import PRESETS, make

from offpol.bench.suite import load_suite

FILE = Path(__file__).with_name("atari_golden.json")
ALL_GAMES = load_suite("atari100k").games
GAMES = ["Breakout", "Boxing", "UpNDown"]  # one waits for FIRE, one has no lives, one loses lives and never waits


def trajectory_hash(preset: str, game: str) -> str:
    """Hash the protocol, and every observation, reward and flag of 150 random steps.

    The games are cut short to see new ones begin.
    """
    protocol = make("atari", f"env.game={game}", f"env/preset={preset}", num_envs=1).protocol
    assert protocol.name == preset
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(protocol)).encode())
    short = "env.protocol.max_frames_per_episode=480"
    env = make("atari", f"env.game={game}", f"env/preset={preset}", short, num_envs=1)
    digest.update(np.ascontiguousarray(env.reset()))
    rng = np.random.default_rng(2024)
    for _ in range(150):
        for field in env.step(rng.integers(env.spec.num_actions, size=1)):
            digest.update(np.ascontiguousarray(field))
    env.close()
    return digest.hexdigest()[:16]


def check(preset: str, game: str) -> None:
    golden = json.loads(FILE.read_text())
    assert golden["ale_py"] == ale_py.__version__, f"the golden file is of ale-py {golden['ale_py']}: see above"
    assert trajectory_hash(preset, game) == golden["hashes"][preset][game]


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_play_what_they_played(preset, game):
    check(preset, game)


@pytest.mark.slow
@pytest.mark.parametrize("game", [game for game in ALL_GAMES if game not in GAMES])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_play_all_games_of_atari100k_as_they_did(preset, game):
    check(preset, game)


def test_presets_and_games_differ():
    hashes = json.loads(FILE.read_text())["hashes"]
    assert set(hashes) == set(PRESETS)
    assert all(set(of_preset) == set(ALL_GAMES) for of_preset in hashes.values())
    every = [of_game for of_preset in hashes.values() for of_game in of_preset.values()]
    assert len(set(every)) == len(PRESETS) * len(ALL_GAMES)


if __name__ == "__main__":
    hashes = {preset: {game: trajectory_hash(preset, game) for game in ALL_GAMES} for preset in PRESETS}
    FILE.write_text(json.dumps({"ale_py": ale_py.__version__, "hashes": hashes}, indent=2) + "\n")
