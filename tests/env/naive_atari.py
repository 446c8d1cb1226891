"""A plain emulator loop, written from the protocol's definition alone: what offpol's Atari env must equal."""

import ale_py
import numpy as np
from ale_py import roms


def area_weights(inputs: int, outputs: int) -> np.ndarray:
    """Overlap of each output pixel with each input pixel; rows sum to 1."""
    edges = np.arange(outputs + 1) * inputs / outputs
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(inputs)[None]
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return overlap / overlap.sum(1, keepdims=True)


class NaiveAtari:
    """One emulator, four frames an action, the newest two pooled, gray 84x84, four stacked; no no-ops, no FIRE."""

    def __init__(self, rom: str, seed: int, sticky: float, max_frames: int) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(roms.get_rom_path(rom))
        self.actions = self.ale.getMinimalActionSet()
        self.max_frames = max_frames
        self.rows, self.columns = area_weights(210, 84), area_weights(160, 84)

    def reset(self) -> np.ndarray:
        self.ale.reset_game()
        self.frames = 0
        self.raw = [self.ale.getScreenGrayscale(), np.zeros((210, 160), np.uint8)]
        self.stack = [np.zeros((84, 84))] * 3 + [self._pooled()]
        return np.stack(self.stack)

    def _pooled(self) -> np.ndarray:
        self.raw[0] = np.maximum(*self.raw)
        return self.rows @ self.raw[0] @ self.columns.T

    def step(self, action: int) -> tuple[np.ndarray, int, bool, bool, bool]:
        """Return observation, raw reward, game over, truncated, life lost."""
        lives, reward = self.ale.lives(), 0
        for left in (4, 3, 2, 1):
            reward += self.ale.act(self.actions[action])
            self.frames += 1
            if self.ale.game_over() or self.frames == self.max_frames:
                break
            if left <= 2:
                self.raw[left - 1] = self.ale.getScreenGrayscale()
        self.stack = [*self.stack[1:], self._pooled()]
        over = self.ale.game_over()
        return np.stack(self.stack), reward, over, self.frames >= self.max_frames and not over, self.ale.lives() < lives
