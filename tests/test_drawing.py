"""What pictures share: lines that differ, and every kind of frame drawn as what it is."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offpol.drawing import OWN, draw_frame, look, paint


def drawn(frame: np.ndarray) -> Axes:
    axes = Figure().add_subplot()
    draw_frame(axes, frame)
    return axes


def random(*shape: int, top: int = 255, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape, endpoint=True).astype(dtype)


@pytest.mark.parametrize(("frame", "image"), [
    (random(8, 9), lambda frame: frame),
    (random(3, 8, 9), lambda frame: frame.transpose(1, 2, 0)),
    (random(4, 8, 9), lambda frame: frame.max(0)),
    (random(3, 8, 9, dtype=np.float32), lambda frame: frame.max(0)),
    (random(3, 8, 9, top=1), paint),
    (random(6, 8, 9, top=1, dtype=np.float32), paint),
], ids=["grey", "RGB", "channels", "floats", "three planes", "six planes"])  # fmt: skip
def test_an_image_is_shown_as_what_it_is(frame: np.ndarray, image) -> None:
    (shown,) = drawn(frame).images
    np.testing.assert_array_equal(shown.get_array(), image(frame))


def test_a_vector_is_shown_as_bars() -> None:
    frame = np.array([0.5, -2.0, 0.0])
    axes = drawn(frame)
    assert [bar.get_height() for bar in axes.patches] == frame.tolist()
    low, high = axes.get_ylim()
    assert low < -2.0 < 0.5 < high


def test_lines_of_many_differ() -> None:
    looks = {(str(look(i)["color"]), str(look(i)["ls"])) for i in range(21)}
    assert len(looks) == 21
    assert OWN not in {color for color, _ in looks}
