"""Chooses how replay's index arithmetic runs: compiled where numba is installed, else in numpy."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

ACCELERATED: bool = find_spec("numba") is not None

_KIND = "numba" if ACCELERATED else "numpy"
KERNELS: ModuleType = import_module(f"offpol.memory.kernels_{_KIND}")
TREE_KERNELS: ModuleType = import_module(f"offpol.memory.tree_kernels_{_KIND}")
