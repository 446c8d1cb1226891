"""Which code of one's own a run was made with, and whether it is the code of today."""

import copy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from offpol.record.own_code import other_code, own_code


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose class is written in one file and imported from another."""
    folder = tmp_path / "some_lab"
    folder.mkdir()
    (folder / "traces.py").write_text("class Mine: ...\n")
    (folder / "__init__.py").write_text("from some_lab.traces import Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in ("some_lab", "some_lab.traces"):
        sys.modules.pop(name, None)


def test_the_file_is_the_one_that_the_class_is_written_in(lab: Path) -> None:
    __import__("some_lab")
    info = {"own_code": own_code({"trace": {"_target_": "some_lab.Mine"}, "seed": 0})}
    assert info["own_code"]["trace"]["file"] == str(lab / "traces.py")
    for name in ("some_lab", "some_lab.traces"):  # as in another process
        del sys.modules[name]
    (lab / "__init__.py").write_text("from some_lab.traces import Mine  # changed\n")
    assert other_code(info) == []
    (lab / "traces.py").write_text("class Mine: 'changed'\n")
    assert other_code(info) == [f"trace ({lab / 'traces.py'})"]


def test_the_module_that_registers_an_env_is_ones_own(lab: Path) -> None:
    (lab / "envs.py").write_text("")
    info = {"own_code": own_code({"env": {"_target_": "offpol.env.gymnasium.Gymnasium", "id": "some_lab.envs:My-v0"}})}
    assert other_code(info) == []
    (lab / "envs.py").write_text("# changed")
    assert other_code(info) == [f"env.id ({lab / 'envs.py'})"]
    for known in ("CartPole-v1", "no_such_lab:My-v0"):
        assert own_code({"env": {"id": known}}) == {}


def test_a_run_that_went_on_by_other_code_is_of_both(lab: Path) -> None:
    first = own_code({"trace": {"_target_": "some_lab.traces.Mine"}})
    second = copy.deepcopy(first)
    second["trace"]["sha256"] = "0" * 64
    assert other_code({"own_code": first, "resumed": [{"own_code": first}, {}]}) == []
    assert len(other_code({"own_code": first, "resumed": [{"own_code": second}]})) == 1


def test_what_cannot_be_told_is_left_out(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = ModuleType("__main__")
    notebook.Cell = type("Cell", (), {"__module__": "__main__"})
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    targets = ("__main__.Cell", "some_lab.gone.Mine", "no_such_lab.Mine", "offpol.trace.retrace.Retrace")
    assert own_code({str(i): {"_target_": target} for i, target in enumerate(targets)}) == {}
    info = {"own_code": own_code({"trace": {"_target_": "some_lab.traces.Mine"}})}
    (lab / "traces.py").unlink()
    assert other_code(info) == other_code({}) == other_code({"resumed": [{"changed": {}}]}) == []
