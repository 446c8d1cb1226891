"""Films of games: GIF always, mp4 where imageio-ffmpeg is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offpol.errors import ConfigError
from offpol.record.run_directory import require_writable


def require_possible(path: Path) -> None:
    """Raise ConfigError for a film that could not be written, before anything is played."""
    if path.suffix not in (".gif", ".mp4"):
        raise ConfigError(f"{path} must end in .gif or .mp4.")
    if path.suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ConfigError("mp4 needs the package imageio-ffmpeg: pip install imageio-ffmpeg, or write a .gif instead.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"There is no folder {path.absolute().parent} to write {path.name} into.")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file in it.")
    require_writable(path.absolute().parent, f"name another folder with --{path.suffix[1:]}")


def save(pictures: Sequence[np.ndarray], path: Path, fps: float) -> None:
    """Write RGB pictures [height, width, 3] as GIF or mp4, by the path's ending."""
    if path.suffix == ".gif":
        from PIL import Image

        first, *rest = [Image.fromarray(picture) for picture in pictures]
        first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
        return
    from imageio_ffmpeg import write_frames

    height, width, _ = pictures[0].shape
    film = write_frames(str(path), (width, height), fps=fps, macro_block_size=2)
    film.send(None)
    for picture in pictures:
        film.send(np.ascontiguousarray(picture))
    film.close()
