"""Golden trajectories: what each named preset plays, to the bit, under one version of ale-py.

A failure means that scores before and after cannot be compared. After a wanted change (a new ale-py, a corrected
preset) look at what changed and why, then write the file anew: python tests/env/test_atari_golden.py
"""

import hashlib
import json
from pathlib import Path

import ale_py
import numpy as np
import pytest
from env_factory import PRESETS, make

FILE = Path(__file__).with_name("atari_golden.json")
GAMES = ["Breakout", "UpNDown"]  # both lose lives and know FIRE; one waits for it, one moves from the start


def trajectory_hash(preset: str, game: str) -> str:
    """Hash every observation, reward and flag of 150 random steps; the games are cut short to see new ones begin."""
    short = "env.protocol.max_frames_per_episode=480"
    env = make("atari", f"env.game={game}", f"env/preset={preset}", short, num_envs=1)
    assert env.protocol.name == preset
    digest = hashlib.sha256(np.ascontiguousarray(env.reset()))
    rng = np.random.default_rng(2024)
    for _ in range(150):
        for field in env.step(rng.integers(env.spec.num_actions, size=1)):
            digest.update(np.ascontiguousarray(field))
    env.close()
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_play_what_they_played(preset, game):
    golden = json.loads(FILE.read_text())
    assert golden["ale_py"] == ale_py.__version__, f"the golden file is of ale-py {golden['ale_py']}: see above"
    assert trajectory_hash(preset, game) == golden["hashes"][preset][game]


def test_presets_differ():
    hashes = json.loads(FILE.read_text())["hashes"]
    assert set(hashes) == set(PRESETS)
    every = [of_game for of_preset in hashes.values() for of_game in of_preset.values()]
    assert len(set(every)) == len(PRESETS) * len(GAMES)


if __name__ == "__main__":
    hashes = {preset: {game: trajectory_hash(preset, game) for game in GAMES} for preset in PRESETS}
    FILE.write_text(json.dumps({"ale_py": ale_py.__version__, "hashes": hashes}, indent=2) + "\n")
