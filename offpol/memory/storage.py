"""Where a replay's frames lie: in memory, or in a file that the system pages in and out."""

import mmap
import os
import resource
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np

from offpol.memory.kernels_numpy import Ints

PAGE = mmap.PAGESIZE
ASKING = 100  # draws that ask for their pages, after one was waited for


class Storage(Protocol):
    """Makes the array of a ring's frames and is told what will be read of it."""

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return the array, all zeros; called once."""

    def will_read(self, slots: Ints) -> None:
        """Prepare for reading the frames in these slots, of any shape; those below 0 are none."""


class InMemory:
    """An array that takes memory only as it is written."""

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.zeros(shape, dtype)

    def will_read(self, slots: Ints) -> None:
        pass


class InFile:
    """An array in a file of a folder, without a name: it goes with the process.

    Its memory is the system's page cache, which gives way where others need it. All of the disk space is taken at once,
    as a disk that fills up later would kill the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asks, self._waits = 0, 0  # draws that are still to ask; pages this process ever waited for

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Raise ValueError where the disk has no room."""
        length = int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                os.posix_fallocate(file.fileno(), 0, length)
                self._pages = mmap.mmap(file.fileno(), length)
        except OSError as error:
            raise ValueError(
                f"directory={self.folder} cannot take the {length / 1e9:.1f} GB of frames ({error.strerror}): make "
                "room, name another directory or lower the capacity."
            ) from error
        self._pages.madvise(mmap.MADV_RANDOM)  # rows are drawn from anywhere: reading ahead would only push others out
        self._row_bytes = length // shape[0]
        return np.frombuffer(self._pages, dtype).reshape(shape)

    def will_read(self, slots: Ints) -> None:
        """Have the system fetch what of these frames is not in memory, all at once.

        Touched without that, each page would be waited for by itself: a draw takes ten times as long. Asking takes as
        long as drawing from memory, so nothing is asked for while all seems to be there.
        """
        waits = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        self._asks = ASKING if waits > self._waits else self._asks - 1
        self._waits = waits
        if self._asks <= 0:
            return
        slots = np.unique(slots[slots >= 0])
        if not len(slots):
            return
        first, last = slots * self._row_bytes // PAGE, ((slots + 1) * self._row_bytes - 1) // PAGE
        begins = np.concatenate(([True], first[1:] > last[:-1] + 1))  # a piece of the file; the row before ends another
        for start, stop in zip(first[begins].tolist(), last[np.roll(begins, -1)].tolist(), strict=True):
            self._pages.madvise(mmap.MADV_WILLNEED, start * PAGE, (stop + 1 - start) * PAGE)


def storage_of(storage: str, directory: str | None, run_directory: str | None) -> Storage:
    """Return the one of that name, `memory` or `memmap`, whose folder is the run's by default.

    Raises ValueError for settings that do not go together.
    """
    if storage not in ("memory", "memmap"):
        raise ValueError(f"storage={storage} must be memory or memmap.")
    if storage == "memory":
        if directory is not None:
            raise ValueError(f"directory={directory} is for storage=memmap: set that, or directory to null.")
        return InMemory()
    folder = directory or run_directory
    if folder is None:
        raise ValueError("storage=memmap needs a directory outside of a run: set directory.")
    return InFile(Path(folder))
