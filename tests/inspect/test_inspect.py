"""offpol-inspect: every number against the rows and parameters it comes from."""

import csv
import itertools
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Outcome, call
from inspected import train

from offpol.assembly import build_agent
from offpol.cli.saved_config import load_saved
from offpol.config import conf_dir
from offpol.drawing import ENDS, OWN
from offpol.errors import ConfigError
from offpol.inspect import figures, inspection, tables, window
from offpol.inspect.command import main
from offpol.memory.storage import InFile
from offpol.offline import load_offline
from offpol.record.checkpoint import load_newest
from offpol.trace.retrace import Retrace


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("inspect") / "run", "replay.capacity=1200")


@pytest.fixture(scope="module")
def seen(run: Path) -> tuple[inspection.Subject, inspection.Windows]:
    subject = inspection.load(load_saved(run), run, None, None)
    return subject, inspection.look(subject, batches=30, seed=0)


@pytest.fixture
def command(tmp_path, monkeypatch, capfd, run) -> Callable[..., Outcome]:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "run")
    return lambda *arguments: call(main, arguments, monkeypatch, capfd)


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Leave out what takes most of the time."""
    monkeypatch.setattr(figures, "save", lambda figure, path: path)
    for module, name in ((figures, "operators"), (figures, "by_age"), (figures, "values"),
                         (window, "picture")):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *what: None)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_writes_tables_and_pictures(command) -> None:
    shown = command("run", "--batches", "20")
    assert shown.code == 0, shown.err
    assert "80 windows of 5 transitions" in shown.out
    out = Path("run", "inspect")
    for name in ("operators", "rho_and_traces_by_age", "q_and_monte_carlo", "window"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    names = {file.stem for file in (conf_dir() / "trace").glob("*.yaml")}
    assert {row["operator"] for row in rows(out / "operators.csv")} == names
    whole = json.loads((out / "inspect.json").read_text())
    assert whole["windows"] == 80
    assert len(whole["by_age"]) == 8
    assert sum(row["windows"] for row in whole["by_age"]) == 80
    for name in names:
        assert name in shown.out


def test_the_same_seed_shows_the_same_windows(seen) -> None:
    subject, windows = seen
    again, other = (inspection.look(subject, batches=30, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(windows.place, again.place)
    for name, returns in windows.returns.items():
        np.testing.assert_array_equal(returns, again.returns[name])
    assert (windows.place != other.place).any()


def test_mistakes_are_told_in_a_sentence(command) -> None:
    manifest = next(iter(sorted(Path("run/checkpoints").glob("0*")))).name
    shutil.copytree("run", "bare")
    shutil.rmtree("bare/checkpoints")
    Path("file").write_text("")
    for arguments, sentence in (
        (("nowhere",), "is no run"),
        (("bare",), "holds no whole checkpoint: there is none yet"),
        (("run", "--checkpoint", "7"), f"has no checkpoint 7; there are: {manifest}"),
        (("run", "--batches", "0"), "--batches, --window and --steps must be at least 1"),
        (("run", "--window", "5000"), "hold no window of 5000 transitions: try a shorter --window"),
        (("run", "--out", "file/x"), "name another folder with --out"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 2, outcome.out
        assert sentence in outcome.err
        assert len(outcome.err.splitlines()) == 1


def test_an_older_checkpoint_and_longer_windows_can_be_asked_for(command, no_pictures) -> None:
    first = min(path.name for path in Path("run/checkpoints").glob("0*"))
    shown = command("run", "--checkpoint", first, "--window", "8", "--batches", "4")
    assert shown.code == 0, shown.err
    assert f"(checkpoint {first})" in shown.out
    assert "203 agent steps" in shown.out
    assert "16 windows of 8 transitions" in shown.out


def test_operators_are_given_what_the_learner_is_given(run, seen) -> None:
    """Recompute one window from the stored rows: values by the target network, Retrace by the paper's sum."""
    subject, windows = seen
    cfg, state = load_saved(run), load_newest(run / "checkpoints").state
    agent = build_agent(cfg, subject.spec)
    agent.load_state_dict(state["agent"])
    ring = subject.sources["stored"][0]
    for w in range(20):
        stream, position = divmod(int(windows.place[w, 1]), ring.rows_per_stream)
        slots = stream * ring.rows_per_stream + (position + np.arange(6)) % ring.rows_per_stream
        record = ring.records[slots]
        with torch.no_grad():
            output = agent.target_network(torch.from_numpy(ring.frames[slots].copy()))
            q = agent.critic.value(output.q_logits)[0].double().numpy()
        pi = torch.softmax(output.policy_logits, -1).double().numpy()
        v, taken = (pi * q).sum(1), record["action"]
        total, weight, discount = q[0, taken[0]], 1.0, 1.0
        for t in range(5):
            if t:
                weight *= 0.95 * min(1.0, pi[t, taken[t]] / np.exp(record["behavior_log_prob"][t]))
            own = 0.0 if record["terminated"][t] else 0.99
            total += discount * weight * (record["reward"][t] + own * v[t + 1] - q[t, taken[t]])
            discount *= own
            if not record["valid"][t + 1] or not own:
                break
        assert windows.returns["retrace"][w] == pytest.approx(total, abs=1e-5)
        assert windows.q[w] == pytest.approx(q[0, taken[0]], abs=1e-6)
        assert windows.age_updates[w] == state["agent"]["updates"] - record["policy_version"][0]


def test_every_row_counts_once_in_tables(seen) -> None:
    subject, windows = seen
    table = {row["operator"]: row for row in tables.operator_rows(windows, subject.own)}
    known = ~np.isnan(windows.monte_carlo)
    assert 0 < known.sum() < len(known)
    gap = windows.returns["n_step"][known] - windows.monte_carlo[known]
    assert table["n_step"]["minus_monte_carlo"] == pytest.approx(gap.mean())
    assert table["n_step"]["rms_to_monte_carlo"] == pytest.approx(np.sqrt((gap**2).mean()))
    assert table["retrace"]["rms_to_own"] == 0
    assert table["one_step"]["trace_length"] == 1
    parts = tables.age_bins(windows)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(known)))
    ages = [windows.age_updates[part] for part in parts]
    assert all(a.max() <= b.min() for a, b in itertools.pairwise(ages))
    rows = tables.age_rows(windows, subject.own)
    assert np.average([row["q_mean"] for row in rows], weights=[row["windows"] for row in rows]) == pytest.approx(
        windows.q.mean(), abs=1e-5
    )
    for row, shares in zip(rows, tables.rho_shares(windows), strict=True):
        assert sum(row[f"ended_by_{reason}"] for reason in ENDS) == pytest.approx(1)
        assert shares.sum() == pytest.approx(1)
    edges = (0, 1.05, 2, 3, 5, 10, math.inf)
    for row, part in zip(rows, parts, strict=True):
        for (low, high), name in zip(itertools.pairwise(edges), tables.LENGTH_CLASSES, strict=True):
            lengths = windows.lengths[subject.own][part].tolist()
            share = sum(low < length <= high for length in lengths) / len(lengths)
            assert row[f"used_{name.replace(' ', '_')}"] == pytest.approx(share), name
    assert 0 < np.mean([row["used_1"] for row in rows]) < 1


def test_rows_after_an_episode_do_not_count(seen) -> None:
    """A ratio is told of transitions alone: those that the ring says are valid."""
    subject, windows = seen
    ring = subject.sources["stored"][0]
    for w, (_, slot) in enumerate(windows.place):
        stream, position = divmod(int(slot), ring.rows_per_stream)
        slots = stream * ring.rows_per_stream + (position + np.arange(5)) % ring.rows_per_stream
        np.testing.assert_array_equal(windows.valid[w], ring.records["valid"][slots])
    assert not windows.valid.all()


def test_the_runs_own_operator_stands_with_its_own_numbers() -> None:
    node = {"_target_": "offpol.trace.retrace.Retrace", "lambda_": 0.5}
    own, operators = inspection.operators_of(node, Retrace(0.5))
    assert own == "retrace"
    assert operators["retrace"] == Retrace(0.5)
    own, operators = inspection.operators_of({"_target_": "mine.traces.Mine"}, Retrace(0.25))
    assert own == "Retrace"
    assert operators[own] == Retrace(0.25)
    assert operators["retrace"].lambda_ > 0.5


def test_there_are_words_for_all_that_ends_returns(seen) -> None:
    subject, windows = seen
    assert set(windows.ends[subject.own]) == set(ENDS)
    assert set(tables.CUTS) < set(ENDS)


def test_every_operator_is_drawn_and_the_runs_own_stands_out(seen) -> None:
    """Also one that conf/trace does not have."""
    _, windows = seen
    columns = {name: getattr(windows, name) | {"Mine": getattr(windows, name)["retrace"]}
               for name in ("targets", "lengths", "ends")}  # fmt: skip
    windows = replace(windows, **columns)
    for own in ("Mine", "n_step"):
        lines = {line.get_label(): line for line in figures.by_age(windows, own).axes[2].lines}
        assert set(lines) == set(windows.lengths)
        assert [name for name, line in lines.items() if line.get_color() == OWN] == [own]
        assert max(lines, key=lambda name: lines[name].get_linewidth()) == own
        np.testing.assert_allclose(
            lines["rbis"].get_ydata(), [row["length_rbis"] for row in tables.age_rows(windows, own)]
        )


def test_offline_rows_are_looked_at_in_their_share(run, tmp_path) -> None:
    share = "replay.offline_share={start: 0.75, end: 0.75, over_agent_steps: 0}"
    mixed = train(tmp_path / "mixed", "replay=mixed", f"replay.offline={run}", share)
    subject = inspection.load(load_saved(mixed), mixed, None, None)
    windows = inspection.look(subject, batches=5, seed=0)
    assert list(subject.sources) == ["online", "offline"]
    assert np.bincount(windows.place[:, 0]).tolist() == [5, 15]
    updates = subject.agent.updates
    assert (windows.age_updates[windows.place[:, 0] == 1] >= updates).all()  # gathered before this run began
    assert (windows.age_updates[windows.place[:, 0] == 0] <= updates).all()


def test_offline_rows_that_are_others_by_now_are_refused(run, tmp_path) -> None:
    source = shutil.copytree(run, tmp_path / "source")
    share = "replay.offline_share={start: 0.75, end: 0.75, over_agent_steps: 0}"
    mixed = train(tmp_path / "mixed", "replay=mixed", f"replay.offline={source}", share)
    train(tmp_path / "longer", "run.agent_steps=500", "replay.capacity=1200")
    shutil.rmtree(source)
    shutil.move(tmp_path / "longer", source)
    with pytest.raises(ConfigError, match="does not hold the rows that this run has been learning from"):
        inspection.load(load_saved(mixed), mixed, None, None)


def test_offline_rows_that_were_moved_are_found_where_they_are_now(
    run, tmp_path, monkeypatch, capfd, no_pictures
) -> None:
    source = shutil.copytree(run, tmp_path / "source")
    share = "replay.offline_share={start: 0.75, end: 0.75, over_agent_steps: 0}"
    mixed = train(tmp_path / "mixed", "replay=mixed", f"replay.offline={source}", share)
    moved = shutil.move(source, tmp_path / "moved")
    for arguments, code, sentence in (
        ([mixed], 2, "is no run: give the folder of one"),
        ([mixed, "--offline", moved, "--window", 900], 2, "hold no window of 900 transitions: try a shorter --window"),
        ([run, "--offline", moved], 2, "--offline is for runs with replay.offline"),
        ([mixed, "--offline", moved, "--batches", 2], 0, ""),
    ):
        outcome = call(main, [*map(str, arguments)], monkeypatch, capfd)
        assert outcome.code == code, outcome.err
        assert sentence in outcome.err


def test_offline_rows_whose_probabilities_nobody_logged(run, tmp_path, monkeypatch) -> None:
    pytest.importorskip("minari")
    from offpol import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setattr(minari, "LOGGED", ("policy_version",))
    minari.export_dataset(run, "naive/unknown-v0")
    data = ("replay=mixed", "replay.offline=minari:naive/unknown-v0")
    share = "replay.offline_share={start: 0.75, end: 0.75, over_agent_steps: 0}"
    mixed = train(tmp_path / "mixed", *data, share, "trace=tree_backup")
    assert json.loads((mixed / "info.json").read_text())["mu_known"] is False
    subject = inspection.load(load_saved(mixed), mixed, None, None)
    assert not {"retrace", "vtrace", "rbis"} & set(subject.operators)
    assert "no known probability" in tables.report(subject, inspection.look(subject, batches=5, seed=0))
    with pytest.raises(ValueError, match="is of Chain-8, but this run plays Chain-4"):
        load_offline("minari:naive/unknown-v0", replace(subject.spec, name="Chain-4"))


def test_windows_of_another_length_are_looked_at_whole_after_annealing(tmp_path) -> None:
    annealed = train(tmp_path / "run", "agent.annealing.over_updates=20", "agent.annealing.window_end=3")
    for length in (2, 8):
        subject = inspection.load(load_saved(annealed), annealed, None, length)
        assert inspection.look(subject, batches=2, seed=0).inputs.q.shape[1] == length


def test_frames_that_lie_in_a_file_are_looked_at_from_one(tmp_path) -> None:
    """There may be more of them than memory holds."""
    run = train(tmp_path / "run", "replay.storage=memmap")
    ((ring, _),) = inspection.load(load_saved(run), run, None, None).sources.values()
    assert isinstance(ring.storage, InFile)


def test_where_actions_have_no_known_probability_nothing_is_shown_that_needs_one(tmp_path) -> None:
    noisy = train(tmp_path / "noisy", "network.heads.noisy=0.5", "trace=n_step", "policy=greedy")
    subject = inspection.load(load_saved(noisy), noisy, None, None)
    assert not {"retrace", "vtrace", "rbis"} & set(subject.operators)
    assert {"n_step", "tree_backup", "one_step"} <= set(subject.operators)
    windows = inspection.look(subject, batches=5, seed=0)
    assert "no known probability" in tables.report(subject, windows)
    figures.by_age(windows, subject.own)
    window.picture(subject, windows, 0)
