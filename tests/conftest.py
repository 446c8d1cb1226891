"""What holds for all tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _arithmetic_is_put_back() -> Iterator[None]:
    """A run in the process of the tests has small numbers taken for 0: hypothesis would stumble over that."""
    yield
    torch.set_flush_denormal(False)
