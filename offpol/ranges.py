"""Values that a part takes, in a range."""

from __future__ import annotations


def check_unit(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= value <= 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], but is {value}: set it to a number in that range.")


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless value > 0 (infinity is allowed)."""
    if not value > 0.0:
        raise ValueError(f"{name} must be positive, but is {value}: set it to a number above 0.")
