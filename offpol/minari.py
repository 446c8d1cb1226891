"""Runs as Minari datasets and back, without loss; Minari is optional (extra `offline`).

A dataset's episode is a stretch of one stream up to a row with `valid` False, whose observation is its last. What
Minari has no field for, the logged probability and the policy's version, lies in `infos`. Observations are single
frames: a stack is put together again from them. Lost are only the older frames of a stack whose episode began before
the oldest row, and the windows that would need a stream's newest row: its transition has no next observation yet.

    offpol-minari export RUN_DIR ID
    offpol-minari import ID
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from offpol.errors import ConfigError, install
from offpol.offline import acted_noisily, require_game
from offpol.record.identity import MINARI, game_of
from offpol.record.run_directory import CHECKPOINTS, CONFIG, played_in
from offpol.record.run_results import read_run
from offpol.record.segments import rows_of, unbroken_from

GAME = "offpol_game"  # in a dataset's metadata: what was played, as `EnvSpec.name` has it
LOGGED = ("behavior_log_prob", "policy_version")
Fields = dict[str, np.ndarray]


def export_dataset(run_directory: Path, dataset_id: str) -> int:
    """Write the replay of a run's newest checkpoint as a new dataset; return the number of transitions.

    Probabilities that nobody knows, as of noisy layers, are NaN.

    Raises ConfigError without a checkpoint, without Minari, and for an id that is taken or malformed.
    """
    import gymnasium

    from offpol.record.checkpoint import load_newest

    if not any((run_directory / name).exists() for name in (CONFIG, CHECKPOINTS)):
        raise ConfigError(f"{run_directory} is no run: it has no {CONFIG}.")
    _check_id(dataset_id)
    found = load_newest(run_directory / CHECKPOINTS, only=["replay"])
    minari = _minari()
    rows = rows_of(found.state["replay"], str(found.path))
    episodes = [episode for stream in _streams(rows) for episode in _episodes(stream)]
    if not episodes:
        raise ConfigError(f"{run_directory} has no two rows of one stream in its replay: nothing to export.")
    if acted_noisily(run_directory):
        for episode in episodes:
            episode["behavior_log_prob"] = np.full_like(episode["behavior_log_prob"], np.nan)
    frame = episodes[0]["obs"]
    low, high = (0, 255) if frame.dtype == np.uint8 else (-np.inf, np.inf)
    highest = max(int(episode["action"].max()) for episode in episodes)
    about = f"replay of {run_directory.resolve().name}; frames as single images, rewards as the learner's"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* None", category=UserWarning)  # no author, permalink, ...
        try:
            dataset = minari.create_dataset_from_buffers(
                dataset_id, [_buffer(minari, episode) for episode in episodes],
                observation_space=gymnasium.spaces.Box(low, high, frame.shape[1:], frame.dtype.type),
                action_space=gymnasium.spaces.Discrete(highest + 1), algorithm_name="offpol", description=about,
                jpeg_encoding=False,  # the default would change the pixels
            )  # fmt: skip
        except ValueError as error:  # the id is taken
            raise ConfigError(str(error)) from error
    if (run_directory / CONFIG).is_file():
        game = played_in(run_directory, game_of(read_run(run_directory).cfg))
        dataset.storage.update_metadata({GAME: game})
    return sum(len(episode["action"]) - 1 for episode in episodes)


def import_dataset(dataset_id: str, stack: int, game: str | None = None) -> dict[str, torch.Tensor]:
    """Return a local dataset as one stream of rows, in the form of `offpol.record.segments.rows_since`.

    `stack` is the env's: frames are stacked within episodes. Probabilities that were not logged are NaN.

    Raises ConfigError where there is no such dataset, or its spaces are not an array and a Discrete from 0 on;
    ValueError where it says that it is of another `game`.
    """
    from gymnasium.spaces import Discrete

    _check_id(dataset_id)
    minari = _minari()
    try:
        dataset = minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        try:
            known = ", ".join(sorted(minari.list_local_datasets())) or "none"
        except ValueError as malformed:
            known = f"some, one of which keeps Minari from listing them ({malformed})"
        raise ConfigError(
            f"There is no local Minari dataset '{dataset_id}'; there are: {known}. Fetch it by minari download "
            f"{dataset_id}, or make one by offpol-minari export RUN_DIR {dataset_id}."
        ) from error
    if not isinstance(dataset.action_space, Discrete) or not dataset.observation_space.shape:
        raise ConfigError(f"Minari dataset '{dataset_id}' needs array observations and a Discrete action space.")
    if dataset.action_space.start:
        raise ConfigError(
            f"Minari dataset '{dataset_id}' has the action space {dataset.action_space}, but offpol's actions start at "
            "0: write its actions anew, counted from there."
        )
    if game is not None:
        require_game(f"{MINARI}{dataset_id}", dataset.storage.metadata.get(GAME, game), game)
    parts = [_rows(episode, stack) for episode in dataset.iterate_episodes()]
    fields = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    number = torch.tensor([len(fields["action"])])
    return fields | {
        "start": torch.zeros(1, dtype=torch.int64), "stop": number, "oldest": torch.zeros(1, dtype=torch.int64),
        "valid_before": torch.zeros(1, dtype=torch.bool), "stack": torch.tensor(stack),
    }  # fmt: skip


def _check_id(dataset_id: str) -> None:
    """Minari itself fails by accident where the version is missing, and too late where the rest is no id to it."""
    if not re.fullmatch(r"([-\w][-\w/]*[-\w]/)?[-\w]+-v\d+", dataset_id):
        raise ConfigError(
            f"'{dataset_id}' is no id of a Minari dataset: write it with a version, as in breakout/offpol-v0, in "
            "letters, digits, - and _, two at least before a slash."
        )


def _minari() -> ModuleType:
    try:
        return import_module("minari")
    except ImportError as error:
        raise ConfigError(f"Minari is not installed: {install('offline')}.") from error


def _streams(segments: list[dict[str, torch.Tensor]]) -> Iterator[Fields]:
    """Put the segments of each stream together, oldest row first."""
    apart, unbroken = ("start", "stop", "oldest", "valid_before", "stack"), unbroken_from(segments)
    for stream in range(len(segments[0]["start"])):
        parts: list[Fields] = []
        for segment in segments:
            if segment["stop"][stream] <= unbroken[stream]:
                continue
            length = (segment["stop"] - segment["start"]).tolist()
            first = sum(length[:stream])
            chosen = slice(first, first + length[stream])
            fields = {name: values[chosen].numpy() for name, values in segment.items() if name not in apart}
            fields["valid"] = fields["valid"].copy()
            if parts and length[stream]:
                parts[-1]["valid"][-1] = bool(segment["valid_before"][stream])  # a cut may have come after it was saved
            if length[stream]:
                parts.append(fields)
        if parts:
            yield {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _episodes(stream: Fields) -> Iterator[Fields]:
    """Cut a stream behind each row with `valid` False; what is shorter than one transition is no episode."""
    ends = np.flatnonzero(~stream["valid"]) + 1
    for first, stop in zip([0, *ends], [*ends, len(stream["valid"])], strict=True):
        if stop - first > 1:
            yield {name: values[first:stop] for name, values in stream.items()}


def _buffer(minari: ModuleType, episode: Fields) -> Any:
    """Return an episode of T + 1 rows as T transitions; the last row gives only its observation."""
    steps = {name: values[:-1] for name, values in episode.items()}
    infos = {name: episode[name] for name in LOGGED}
    return minari.data_collector.EpisodeBuffer(
        observations=episode["obs"], actions=steps["action"], rewards=steps["reward"].tolist(),
        terminations=steps["terminated"].tolist(), truncations=steps["truncated"].tolist(), infos=infos,
    )  # fmt: skip


def _rows(episode: Any, stack: int) -> Fields:
    """Return an episode of T transitions as T + 1 rows, the last one with `valid` False."""
    number = len(episode.rewards)

    def padded(values: Any, dtype: Any) -> np.ndarray:
        return np.append(np.asarray(values)[:number].astype(dtype), np.zeros(1, dtype))

    obs = np.asarray(episode.observations)
    infos = episode.infos or {}
    log_prob = infos.get("behavior_log_prob", np.full(number, np.nan))
    return {
        "obs": obs if obs.dtype == np.uint8 else obs.astype(np.float32),  # as envs are read
        "action": padded(episode.actions, np.int64),
        "reward": padded(episode.rewards, np.float32), "terminated": padded(episode.terminations, np.bool_),
        "truncated": padded(episode.truncations, np.bool_), "valid": padded(np.ones(number), np.bool_),
        "behavior_log_prob": padded(log_prob, np.float32),
        "policy_version": padded(infos.get("policy_version", np.zeros(number)), np.int64),
        "history": np.minimum(np.arange(number + 1), stack - 1).astype(np.uint8),
    }  # fmt: skip
