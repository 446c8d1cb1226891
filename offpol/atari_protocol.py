"""What is played on the Atari 2600: the protocol that gives a score its meaning, and ALE's emulators set to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from ale_py import AtariVectorEnv, roms

from offpol.errors import did_you_mean


@dataclass(frozen=True)
class AtariProtocol:
    """Everything that decides what a score means. See conf/env/preset/ for the published ones.

    Args:
        name: of the preset, for reports.
        sticky_probability: that an emulator frame repeats the previous frame's action (Machado et al. 2018).
        noop_max: a game starts with U{0 .. noop_max - 1} frames of no-op, the FIRE frame among them; 0 for none.
        fire_reset: a game starts with one frame of FIRE, where FIRE is among the actions.
        life_loss: "terminates" marks a lost life as terminated for the learner; the game goes on either way.
        full_action_space: all 18 actions instead of those the game needs.
        reward_clipping: the learner's reward is the frames' sum clipped to [-1, 1]; raw rewards are kept beside.
        frame_skip: emulator frames an action lasts.
        max_pool: a picture is the pixelwise maximum of the last two frames.
        max_frames_per_episode: truncates games, in emulator frames after the no-ops.
        screen_size: height and width of an observed frame.
        grayscale: one brightness plane [H, W] a frame, or else colors [3, H, W].
        stack: newest frames that make an observation; zeros before the first.
        evaluation_epsilon: share of random actions when this protocol is evaluated.
    """

    name: str
    sticky_probability: float
    noop_max: int
    fire_reset: bool
    life_loss: Literal["ignored", "terminates"]
    full_action_space: bool
    reward_clipping: bool
    frame_skip: int
    max_pool: bool
    max_frames_per_episode: int
    screen_size: int
    grayscale: bool
    stack: int
    evaluation_epsilon: float

    def __post_init__(self) -> None:
        if not 0 <= self.sticky_probability < 1:
            raise ValueError(f"sticky_probability must lie in [0, 1), but is {self.sticky_probability}: 0 means none.")
        if not 0 <= self.evaluation_epsilon <= 1:
            raise ValueError(f"evaluation_epsilon must lie in [0, 1], but is {self.evaluation_epsilon}.")
        if self.noop_max < 0:
            raise ValueError(f"noop_max must be 0 (no no-ops) or more, but is {self.noop_max}: 30 is usual.")
        if self.life_loss not in ("ignored", "terminates"):
            raise ValueError(f"life_loss must be ignored or terminates, but is {self.life_loss}.")
        for field in ("frame_skip", "max_frames_per_episode", "screen_size", "stack"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, but is {getattr(self, field)}.")


def rom_name(game: str) -> str:
    """Return ALE's name of a game written in any case, with or without underscores; ValueError if unknown."""
    known = {rom.replace("_", ""): rom for rom in roms.get_all_rom_ids()}
    wanted = game.replace("_", "").replace(" ", "").lower()
    if wanted in known:
        return known[wanted]
    # The protocol that ALE/Pong-v5 or PongNoFrameskip-v4 stands for is not this one: only a hint may drop it.
    bare = re.sub(r"^ale/|(noframeskip|deterministic)?-v\d+$", "", wanted)
    near = did_you_mean(title(bare), map(title, known.values())) or ": write it as in Breakout or MsPacman."
    raise ValueError(f"game={game} is not among the {len(known)} games of ale-py{near}")


def title(rom: str) -> str:
    """Write ALE's name of a game as papers do: ms_pacman is MsPacman."""
    return "".join(word.capitalize() for word in rom.split("_"))


def build_emulators(
    rom: str, protocol: AtariProtocol, height: int, width: int, *, num_envs: int, num_threads: int
) -> Any:
    """Build ALE's vector env with pictures of height x width.

    Every argument is given, for ALE's defaults are a protocol of their own. Lives are left to the caller: ALE's
    episodic_life restarts the whole game, and its life_loss_info misses a last life lost before the game ends and
    hides a truncation that comes with a lost life.
    """
    return AtariVectorEnv(
        rom,
        num_envs,
        batch_size=num_envs,
        num_threads=num_threads,
        thread_affinity_offset=-1,
        max_num_frames_per_episode=protocol.max_frames_per_episode,
        repeat_action_probability=protocol.sticky_probability,
        full_action_space=protocol.full_action_space,
        continuous=False,
        continuous_action_threshold=0.5,
        autoreset_mode="NextStep",
        img_height=height,
        img_width=width,
        grayscale=protocol.grayscale,
        stack_num=protocol.stack,
        frameskip=protocol.frame_skip,
        maxpool=protocol.max_pool,
        noop_max=protocol.noop_max,
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=protocol.fire_reset,
    )
