"""benchmarks/gpu.py answers every question; on a CPU its numbers mean nothing, but it works."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import offpol

SCRIPT = Path(offpol.__file__).parent.parent / "benchmarks" / "gpu.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="offpol is not run from a clone")


@pytest.fixture
def gpu(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu", module)  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def ask(gpu, tmp_path: Path, capfd: pytest.CaptureFixture, *questions: str) -> dict:
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--quick", "--together", "2", "--out", str(out), "--only", *questions])
    answers, printed = json.loads(out.read_text()), capfd.readouterr().out
    for question in questions:
        assert f"| {' | '.join(answers[question][0])} |" in printed
    return answers


def test_it_compares_and_measures_drawing(gpu, tmp_path, capfd) -> None:
    answers = ask(gpu, tmp_path, capfd, "same", "replay")
    assert [row["same"] for row in answers["same"]] == [True, True]
    assert answers["same"][0]["updates"] == 3
    assert {(row["replay"], row["batch of windows"]) for row in answers["replay"]} == {
        (kind, size) for kind in ("on_device", "prioritized") for size in (32, 256)
    }
    assert all(row["draw, us"] > 0 for row in answers["replay"])


@pytest.mark.slow
def test_it_measures_updates_actors_and_runs(gpu, tmp_path, capfd) -> None:
    answers = ask(gpu, tmp_path, capfd, "updates", "acting", "runs")
    assert {row["autocast"] for row in answers["updates"]} == {"none", "bfloat16"}
    assert [row["runs at once"] for row in answers["runs"]] == [1, 2]
    assert {row["agent steps each"] for row in answers["runs"]} == {707}


def test_a_difference_is_seen(gpu, tmp_path, capfd, monkeypatch) -> None:
    """`same` is no word that is always said: an update that is done twice differs."""
    monkeypatch.setattr(gpu, "QUICK", gpu.Scale(**{**vars(gpu.QUICK), "modes": ("step by step", "graph")}))
    monkeypatch.setattr(
        gpu, "compile_or_record", lambda agent, replay, **modes: setattr(agent, "off", any(modes.values()))
    )
    update = gpu.update

    def twice(agent, replay) -> None:
        for _ in range(2 if agent.off else 1):
            update(agent, replay)

    monkeypatch.setattr(gpu, "update", twice)
    assert [row["same"] for row in ask(gpu, tmp_path, capfd, "same")["same"]] == [True, True, False]


def test_what_makes_no_sense_is_said(gpu, capfd) -> None:
    for device, sentence in (("cpu", "only --quick makes sense"), ("cuda:77", "there is no cuda:77 here")):
        with pytest.raises(SystemExit):
            gpu.main(["--device", device])
        assert sentence in capfd.readouterr().err
