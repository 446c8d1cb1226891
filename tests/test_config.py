# ruff: noqa: E501 - whole sentences are compared
"""Values from yaml against annotations, and the sentences that say what is wrong."""

import os
import pathlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
import pytest
from omegaconf import OmegaConf

from offpol.config import build, check, coerce
from offpol.errors import ConfigError
from offpol.schedule import Schedule

THIS = __name__


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float | None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be positive, got {self.size}")


class Color(Enum):
    RED = "red"


class Part:
    def __init__(
        self, lr: float, mode: Literal["fast", "slow"], inner: Inner, widths: tuple[int, ...], *, spec: object
    ) -> None:
        if lr < 0:
            raise ValueError(f"lr must not be negative, got {lr}")
        self.lr, self.mode, self.inner, self.widths, self.spec = lr, mode, inner, widths, spec


def node(**changes: object) -> dict:
    fine = {"_target_": f"{THIS}.Part", "lr": 1, "mode": "fast", "inner": {"size": 2, "rate": None}, "widths": [3, 4]}
    return fine | changes


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, 3), (3, float, 3.0), (0.5, float, 0.5), (float("inf"), float, float("inf")), (True, bool, True),
        ("a", str, "a"), (None, int | None, None), (3, int | None, 3), (3, float | None, 3.0), ("b", Literal["a", "b"], "b"),
        (2, Literal[1, 2], 2), ([1, 2], tuple[int, ...], (1, 2)), ([1, 2.5], tuple[int, float], (1, 2.5)),
        ([1], list[float], [1.0]), ({"a": [1]}, dict[str, object], {"a": [1]}), ({"a": 1}, dict[str, float], {"a": 1.0}),
        ({"start": 1, "end": 0.1, "over_agent_steps": 9, "from_agent_steps": 0}, Schedule, Schedule(1.0, 0.1, 9, 0)),
        (0.5, float | Schedule, 0.5), ({"start": 1, "end": 0, "over_agent_steps": 9, "from_agent_steps": 0}, float | Schedule, Schedule(1.0, 0.0, 9, 0)),
    ],
)  # fmt: skip
def test_fitting_values_are_coerced_exactly(value: object, annotation: object, expected: object) -> None:
    found = coerce(value, annotation, "key")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "sentence"),
    [
        (1e5, int, "key is 100000.0, but must be a whole number: write 100000."),
        (1.5, int, "key is 1.5, but must be a whole number."),
        (True, int, "key is true, but must be a whole number."),
        (None, int, "key is null, but must be a whole number."),
        ("abc", float, "key is 'abc', but must be a number."),
        (True, float, "key is true, but must be a number."),
        (float("nan"), float, "key is nan, but must be a number."),
        (1, bool, "key is 1, but must be true or false."),
        (3, str, "key is 3, but must be a text: write it in quotes, as in key='\"3\"'."),
        ("fats", Literal["fast", "slow"], "key is 'fats', but must be one of fast, slow: did you mean 'fast'?"),
        (True, Literal[1, 2], "key is true, but must be one of 1, 2."),
        ("x", int | None, "key is 'x', but must be a whole number."),
        (3, tuple[int, ...], "key is 3, but must be a list, as in key=[1,2]."),
        ([1, "a"], tuple[int, ...], "key[1] is 'a', but must be a whole number."),
        ([1], tuple[int, int], "key is [1], but must be a list of 2 values."),
        (3, dict[str, object], "key is 3, but must be a mapping."),
        (3, Schedule, "key is 3, but must be a mapping of start, end, over_agent_steps, from_agent_steps."),
        ({"start": 1, "end": 0, "from_agent_steps": 0}, Schedule, "key.over_agent_steps is missing: give it a value, as in key.over_agent_steps=..."),
        ({"start": 1, "end": 0, "over_agent_step": 3}, Schedule, "There is no key 'key.over_agent_step': did you mean 'key.over_agent_steps'?"),
        ("x", float | Schedule, "key is 'x', but must be a number."),
        ("x", int | bool, "key is 'x', but must be one of: int, bool."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_in_one_sentence(value: object, annotation: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        coerce(value, annotation, "key")
    assert str(raised.value) == sentence


@pytest.mark.parametrize(("annotation", "shown"), [
    (complex, "complex"), (Sequence[int], "collections.abc.Sequence[int]"), (pathlib.Path, "pathlib.Path"),
    (pathlib.Path | None, "pathlib.Path"), (list[pathlib.Path], "pathlib.Path"), (Color, "test_config.Color"),
])  # fmt: skip
def test_an_annotation_that_no_part_may_use_is_told(annotation: object, shown: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"annotates it with {re.escape(shown)}, but may use int, float, bool, str, L"
    ):
        coerce(["a"] if annotation == list[pathlib.Path] else "a", annotation, "key")


def test_build_hands_over_checked_values_and_wanted_runtime_arguments() -> None:
    part = build(OmegaConf.create(node()), "part", spec="the spec", unwanted=3)
    assert (part.lr, part.mode, part.inner, part.widths, part.spec) == (1.0, "fast", Inner(2, None), (3, 4), "the spec")
    assert type(part.lr) is float
    assert build(node(lr=np.float32(0.5), widths=np.arange(2)), "part", spec=None).widths == (0, 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lrr": 1}, "There is no key 'part.lrr': did you mean 'part.lr'?"),
        ({"zzzzzz": 1}, "There is no key 'part.zzzzzz': part takes lr, mode, inner, widths."),
        ({"inner": {"size": 1e3, "rate": None}}, "part.inner.size is 1000.0, but must be a whole number: write 1000."),
        ({"inner": {"size": 0, "rate": None}}, "part.inner: size must be positive, got 0"),
        ({"lr": -1}, "part: lr must not be negative, got -1.0"),
        ({"lr": "???"}, "part.lr is missing: give it a value, as in part.lr=..."),
        ({"spec": 3}, "part.spec cannot be set here: offpol itself hands it over."),
        ({"_target_": f"{THIS}.Prat"}, f"part._target_ is {THIS}.Prat, but {THIS} has no class Prat: did you mean 'Part'?"),
        ({"_target_": "os.system"}, "part._target_ is os.system, but must be a class of offpol or of a package of yours."),
        ({"_target_": f"{THIS}.node"}, f"part._target_ is {THIS}.node, but {THIS} has no class node."),
        ({"_target_": "no_such_package.X"}, "part._target_ is no_such_package.X, but there is no module no_such_package: install it, or put its folder on PYTHONPATH."),
        ({"_target_": "Part"}, "part needs a _target_, the dotted path of a class, but has 'Part'."),
    ],
)  # fmt: skip
def test_build_names_what_is_wrong_by_its_full_key(changes: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(node(**changes), "part", spec=None)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("missing", ["lr", "inner"])
def test_a_missing_key_is_named(missing: str) -> None:
    given = node()
    del given[missing]
    with pytest.raises(ConfigError, match=f"part.{missing} is missing"):
        check(given, ["spec"], "part")


def test_check_says_what_build_would_without_constructing() -> None:
    check(node(lr=-1), ["spec"], "part")  # only the constructor knows that this is wrong
    with pytest.raises(ConfigError, match=r"part\.inner\.size is 'x'"):
        check(node(inner={"size": "x", "rate": 1}), ["spec"], "part")
    with pytest.raises(ConfigError, match=r"part\.spec is missing"):
        check(node(), [], "part")


def test_a_node_is_named_by_its_seam_where_no_key_is_given() -> None:
    with pytest.raises(ConfigError, match=r"^trace\.lambda_ is 'x'"):
        check({"_target_": "offpol.trace.retrace.Retrace", "lambda_": "x"}, [])


def test_a_dependency_that_is_missing_is_told_from_a_mistyped_module(tmp_path, monkeypatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_package_nobody_has\nclass X: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="needs the package a_package_nobody_has, which is not installed"):
        build({"_target_": "needs_more.X"}, "env")


def test_dataclasses_with_fields_that_are_no_parameters_are_checked_as_they_are_built(tmp_path, monkeypatch) -> None:
    (tmp_path / "special_part.py").write_text(
        "from dataclasses import KW_ONLY, dataclass, field\n"
        "@dataclass\nclass Keyword:\n    rate: float\n    _: KW_ONLY\n    size: int\n"
        "@dataclass\nclass Inner:\n    rate: float\n    cache: dict = field(init=False)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, values in (("Keyword", {"rate": 1, "size": 2}), ("Inner", {"rate": 1})):
        part = {"_target_": f"special_part.{name}", **values}
        check(part, [], "part")
        assert build(part, "part").rate == 1.0
    with pytest.raises(ConfigError, match=r"There is no key 'part\.cache'"):
        check({"_target_": "special_part.Inner", "rate": 1, "cache": {}}, [], "part")
    sys.modules.pop("special_part")


def test_annotations_as_strings_and_inherited_fields_are_resolved(tmp_path, monkeypatch) -> None:
    (tmp_path / "base_part.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import Literal\n"
        "@dataclass(frozen=True)\nclass Base:\n    mode: Literal['a', 'b']\n"
    )
    (tmp_path / "derived_part.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import TYPE_CHECKING\n"
        "from base_part import Base\nif TYPE_CHECKING:\n    from nowhere import Spec\n"
        "@dataclass(frozen=True)\nclass Derived(Base):\n    rate: float | None\n    spec: Spec\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    part = build({"_target_": "derived_part.Derived", "mode": "b", "rate": 1}, "part", spec="given")
    assert (part.mode, part.rate, part.spec) == ("b", 1.0, "given")
    with pytest.raises(ConfigError, match=r"part.mode is 'c', but must be one of a, b"):
        check({"_target_": "derived_part.Derived", "mode": "c", "rate": 1}, ["spec"], "part")
    for module in ("base_part", "derived_part"):
        sys.modules.pop(module)


def test_types_that_a_module_names_are_resolved_without_importing_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "kinds_part.py").write_text(
        "from typing import Literal\nKind = Literal['a', 'b']\nraise RuntimeError\n"
    )
    (tmp_path / "naming_part.py").write_text(
        "from typing import Literal\nfrom kinds_part import Kind\nOther = Literal['c']\nLater = list(range(3))\n"
        "class Naming:\n    def __init__(self, kind: Kind, other: Other | None, later: Later) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    part = {"_target_": "naming_part.Naming", "kind": "a", "other": None, "later": "anything"}
    check(part, [], "part")
    with pytest.raises(ConfigError, match=r"part.kind is 'zzz', but must be one of a, b"):
        check({**part, "kind": "zzz"}, [], "part")
    with pytest.raises(ConfigError, match=r"part.other is 'zzz', but must be "):
        check({**part, "other": "zzz"}, [], "part")
    assert not {"kinds_part", "naming_part"} & set(sys.modules)


def test_what_a_constructor_hands_on_to_its_parent_is_checked_too(tmp_path, monkeypatch) -> None:
    (tmp_path / "parents.py").write_text(
        "from __future__ import annotations\nfrom typing import Literal\n"
        "class Base:\n    def __init__(self, mode: Literal['a', 'b'], size: int, *, seed: int) -> None:\n"
        "        self.mode, self.size, self.seed = mode, size, seed\n"
        "class Middle(Base):\n    pass\n"
    )
    (tmp_path / "children.py").write_text(
        "from parents import Middle\n"
        "class Child(Middle):\n    def __init__(self, rate: float, **kwargs) -> None:\n"
        "        super().__init__(**kwargs)\n        self.rate = rate\n"
        "class Sized(Child):\n    def __init__(self, **more) -> None:\n        super().__init__(size=7, **more)\n"
        "class First(Middle):\n    def __init__(self, **more) -> None:\n        super().__init__('a', **more)\n"
        "class Loose:\n    def __init__(self, rate: float, **more) -> None:\n        self.more = more\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    given = {"_target_": "children.Child", "mode": "b", "size": 3, "rate": 1}
    check(given, ["seed"], "part")
    part = build(given, "part", seed=5)
    assert (part.mode, part.size, part.rate, part.seed) == ("b", 3, 1.0, 5)
    with pytest.raises(ConfigError, match=r"part\.mode is 'c', but must be one of a, b"):
        check({**given, "mode": "c"}, ["seed"], "part")
    sized = build({"_target_": "children.Sized", "mode": "b", "rate": 1}, "part", seed=5)
    assert (sized.size, sized.rate) == (7, 1.0)
    assert build({"_target_": "children.First", "size": 1}, "part", seed=5).mode == "a"
    for name, values in (("Sized", {"mode": "b", "rate": 1}), ("Loose", {"rate": 1})):
        with pytest.raises(ConfigError, match=r"There is no key 'part\.size': part takes"):
            check({"_target_": f"children.{name}", "size": 3, **values}, ["seed"], "part")
    for module in ("parents", "children"):
        sys.modules.pop(module)


def test_a_part_that_was_edited_is_read_anew(tmp_path, monkeypatch) -> None:
    """As in a notebook, whose user adds a parameter."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for number, parameter in enumerate(("lam", "pow")):
        text = f"class Edited:\n    def __init__(self, {parameter}: float) -> None:\n        pass\n"
        (tmp_path / "edited_part.py").write_text(text)
        os.utime(tmp_path / "edited_part.py", ns=(number, number))
        check({"_target_": "edited_part.Edited", parameter: 1}, [], "part")
    with pytest.raises(ConfigError, match=r"There is no key 'part\.lam'"):
        check({"_target_": "edited_part.Edited", "lam": 1}, [], "part")
