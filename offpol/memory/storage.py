"""Where a replay's frames lie: in memory, or in a file that the system pages in and out."""

import mmap
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Allocate = Callable[[tuple[int, ...], np.dtype], NDArray]


def allocator(storage: str, directory: str | None, run_directory: str | None) -> Allocate:
    """Return what makes an array of zeros: `numpy.zeros`, or `mapped` into a folder (by default the run's).

    Raises ValueError for settings that do not go together.
    """
    if storage not in ("memory", "memmap"):
        raise ValueError(f"storage={storage} must be memory or memmap.")
    if storage == "memory":
        if directory is not None:
            raise ValueError(f"directory={directory} is for storage=memmap: set that, or directory to null.")
        return np.zeros
    folder = directory or run_directory
    if folder is None:
        raise ValueError("storage=memmap needs a directory outside of a run: set directory.")
    return partial(mapped, Path(folder))


def mapped(folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """Return an array of zeros that lies in a file of a folder, without a name: it goes with the process.

    Its memory is the system's page cache, which gives way where others need it. All of the disk space is taken now,
    as a disk that fills up later would kill the process. Raises ValueError where there is not enough.
    """
    length = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, length)
            pages = mmap.mmap(file.fileno(), length)
    except OSError as error:
        raise ValueError(
            f"directory={folder} cannot take the {length / 1e9:.1f} GB of frames ({error.strerror}): make room, "
            "name another directory or lower the capacity."
        ) from error
    pages.madvise(mmap.MADV_RANDOM)  # rows are drawn from anywhere: reading ahead would only push others out
    return np.frombuffer(pages, dtype).reshape(shape)
