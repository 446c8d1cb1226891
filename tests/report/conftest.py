"""What the tests of reports share."""

import pytest

from offpol.report import pages


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Leave out what takes most of the time, where only words and numbers are looked at."""
    monkeypatch.setattr(pages, "_svg", lambda drawing, name: "<svg></svg>")
    monkeypatch.setattr(pages.Drawing, "savefig", lambda self, path, dpi: path.touch())
