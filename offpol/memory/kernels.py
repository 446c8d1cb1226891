"""Chooses how replay's index arithmetic runs: compiled where numba is installed, else in numpy."""

import atexit
import shutil
import tempfile
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

ACCELERATED: bool = find_spec("numba") is not None


def _load() -> tuple[ModuleType, ModuleType]:
    kind = "numba" if ACCELERATED else "numpy"
    return import_module(f"offpol.memory.kernels_{kind}"), import_module(f"offpol.memory.tree_kernels_{kind}")


def _load_with_temporary_cache() -> tuple[ModuleType, ModuleType]:
    import numba

    folder = tempfile.mkdtemp(prefix="offpol-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
    return _load()


try:
    KERNELS, TREE_KERNELS = _load()
except RuntimeError:  # numba found no place for what it compiled: neither this folder nor a home can be written
    KERNELS, TREE_KERNELS = _load_with_temporary_cache()
