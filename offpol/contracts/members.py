"""What every part of a seam has."""

from __future__ import annotations

import inspect

from torch import nn

from offpol.errors import ConfigError


def require_members(part: object, seam: type) -> None:
    """Raise ConfigError for a part without what the Protocol of its seam asks for."""
    kinds = seam.__mro__[:-1]
    named = {name for kind in kinds for name in (*vars(kind), *inspect.get_annotations(kind))}
    wanted = {name for name in named if name[0] != "_" or name == "__call__"}
    methods = {name for name in wanted if callable(getattr(seam, name, None))}
    lacks = {name for name in wanted if not hasattr(part, name)}
    if isinstance(part, nn.Module) and "training" not in vars(part):
        raise ConfigError(f"{type(part).__name__}.__init__ does not call super().__init__(): every nn.Module must.")
    if lacking := sorted(lacks | {name for name in methods if not callable(getattr(part, name, None))}):
        raise ConfigError(
            f"{type(part).__name__} has no {', '.join(lacking[:4])}, which every {seam.__name__.lower()} has: see "
            f"offpol.types.{seam.__name__}, and the base classes that docs/extending.md names."
        )
