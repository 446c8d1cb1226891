"""Chooses how replay's index arithmetic runs: compiled where numba is installed, else in numpy."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

ACCELERATED: bool = find_spec("numba") is not None

KERNELS: ModuleType = import_module("offpol.kernels_numba" if ACCELERATED else "offpol.kernels_numpy")
