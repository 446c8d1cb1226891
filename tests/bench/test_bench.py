"""offpol-bench from end to end: with a stand-in for the runs, and once with real ones."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import TINY, Outcome, call

from offpol.bench import command, launcher, pool
from offpol.bench.plan import tasks
from offpol.bench.suite import expand, load_suite
from offpol.cli.command_line import parse_assignments
from offpol.record.run_results import find_runs

WORDS = ("suite=s6", "env.game=Pong,Krull", "trace=retrace,n_step", "seed=0,1", "out=runs")
STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))


@pytest.fixture
def offpol_bench(tmp_path: Path, monkeypatch, capfd) -> Callable[..., Outcome]:
    """The command, in a folder of its own, with the stand-in for its runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "COMMAND", STAND_IN)
    monkeypatch.setattr(command, "POLL_S", 0.01)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield lambda *arguments: call(command.main, arguments, monkeypatch, capfd)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def write_deeds(deeds: dict[str, str], words: tuple[str, ...] = WORDS) -> None:
    """Decide what each run does, by the end of its folder; the others just finish."""
    grid = [word for word in words if not word.startswith(("suite=", "out=", "jobs="))]
    plan = {}
    for task in tasks(expand(load_suite("s6"), grid), find_runs([Path("runs")]), Path("runs")):
        deed = [deed for end, deed in deeds.items() if end in f"{task.job.label} {task.job.game} {task.job.seed}"]
        plan[str(task.directory)] = {"cfg": task.job.cfg, "deed": deed[0] if deed else "finish"}
    Path("plan.json").write_text(json.dumps(plan))


def ran() -> list[str]:
    lines = Path("ran.txt").read_text().splitlines() if Path("ran.txt").exists() else []
    Path("ran.txt").unlink(missing_ok=True)
    return lines


def test_a_grid_runs_once_and_failures_stop_nothing(offpol_bench: Callable[..., Outcome]) -> None:
    write_deeds({"retrace Pong 1": "fail", "n_step Krull 0": "die"})
    outcome = offpol_bench(*WORDS, "jobs=2")
    assert outcome.code == 1
    assert len(ran()) == 8
    assert outcome.out.count("finished: ") == 6
    assert "2 failed:" in outcome.out
    assert "trace=retrace Pong seed 1: ValueError: the reason" in outcome.out
    assert "trace=n_step Krull seed 0: ended by SIGKILL (out of memory?)" in outcome.out
    assert "offpol-report runs --out runs/report" in outcome.out

    write_deeds({})
    again = offpol_bench(*WORDS, "jobs=2")
    assert again.code == 0, again.out
    assert len(ran()) == 2
    assert "8 runs: 6 finished, 0 to go on, 2 to start" in again.out
    assert offpol_bench(*WORDS).code == 0
    assert not ran()
    more = (*WORDS[:3], "seed=0,1,2", "out=runs")
    write_deeds({}, more)
    assert offpol_bench(*more).code == 0
    assert len(ran()) == 4


def test_runs_by_other_code_of_ones_own_are_told(offpol_bench: Callable[..., Outcome], monkeypatch) -> None:
    words = ("suite=s6", "env.game=Pong,Krull", "seed=0", "trace._target_=mine.Mine", "out=runs", "jobs=1")
    Path("mine.py").write_text("class Mine:\n    def __init__(self, lambda_: float) -> None: ...\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()), prepend=os.pathsep)
    write_deeds({}, words)
    assert "The code of" not in offpol_bench(*words).err
    assert "The code of" not in offpol_bench(*words).err
    with Path("mine.py").open("a") as file:
        file.write("# changed")
    said = f"The code of trace ({Path('mine.py').absolute()}) is not what 2 of these runs were made with: move"
    for more in ((), ("--dry-run",)):
        again = offpol_bench(*words, *more)
        assert again.code == 0
        assert again.err.count(said) == 1
    assert "mine" not in sys.modules
    for info in Path("runs").rglob("info.json"):  # of an earlier commit
        info.write_text("{}")
    assert "The code of" not in offpol_bench(*words).err


def test_no_more_at_a_time_than_asked_for(offpol_bench: Callable[..., Outcome], monkeypatch) -> None:
    counts = []
    start = pool.Pool.start

    def counted(self, *arguments) -> None:
        start(self, *arguments)
        counts.append(len(self.children))

    monkeypatch.setattr(pool.Pool, "start", counted)
    write_deeds({})
    assert offpol_bench(*WORDS, "jobs=3").code == 0
    assert max(counts) == 3
    assert len(counts) == 8


def test_a_dry_run_runs_nothing(offpol_bench: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = offpol_bench(*WORDS, "--dry-run")
    assert outcome.code == 0
    assert "trace=n_step  Krull: seed 0 start, seed 1 start  (?)" in outcome.out
    assert "nothing is known of how long it takes" in outcome.out
    assert not list(tmp_path.iterdir())


def test_ctrl_c_saves_the_runs_and_the_same_command_goes_on(offpol_bench: Callable[..., Outcome]) -> None:
    words = (*WORDS[:2], "seed=0", "out=runs", "jobs=1")
    write_deeds({"Pong": "wait"}, words)

    def interrupt() -> None:
        while not Path("waiting").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = offpol_bench(*words)
    thread.join()
    assert outcome.code == 130
    assert "Asking the runs to save themselves" in outcome.out
    assert "The same command again goes on" in outcome.out
    assert "failed" not in outcome.out.replace("0 failed", "")
    assert [line.split()[:2] for line in ran()] == [["start", "Pong"]]
    write_deeds({"Pong": "wait"}, words)
    again = offpol_bench(*words)
    assert again.code == 0
    assert [line.split()[:2] for line in ran()] == [["resume", "Pong"], ["start", "Krull"]]
    assert "2 runs: 0 finished, 1 to go on, 1 to start" in again.out


def test_two_benches_do_not_share_a_folder(offpol_bench: Callable[..., Outcome]) -> None:
    Path("runs").mkdir()
    with open("runs/.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        outcome = offpol_bench(*WORDS)
    assert outcome.code == 2
    assert "Another offpol-bench works in runs" in outcome.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("suite=s7",), "There is no suite 's7'"), (("suite=s6", "jobs=0"), "jobs is 0, but must be"),
     (("--config-dir", "mylab", "suite=mine"), "/mylab: name the folder of the yaml"),
     (("suite=s6", "trace=retrac"), "did you mean 'retrace'?"),
     (("suite=s6", "out=/proc/x"), "name another folder with out=...")],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_mistakes(offpol_bench: Callable[..., Outcome], tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    outcome = offpol_bench(*words)
    assert outcome.code == 2
    assert outcome.err.startswith("offpol-bench: ")
    assert sentence in outcome.err
    assert not list(tmp_path.iterdir())


ORPHAN = """
import os, sys, threading, time
from offpol.bench import child
child.GRACE_S = 0.5
threading.Thread(target=child.end_with_parent, daemon=True).start()
if sys.argv[1] == "deaf":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(60)
"""
PARENT = """
import sys, time
from pathlib import Path
from offpol.bench import pool as pools
pools.COMMAND = (sys.executable, "child.py")
pool = pools.Pool()
for kind in ("willing", "deaf"):
    pool.start(kind, [kind, kind + ".pid"], Path(kind + ".log"))
time.sleep(60)
"""


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not condition():
        time.sleep(0.05)
    return condition()


COUNTING = """
import signal, sys, threading, time
from offpol.bench import child
count = []
signal.signal(signal.SIGTERM, lambda *_: count.append(1))
threading.Thread(target=child.end_with_parent, daemon=True).start()
open("ready", "w").close()
until = time.monotonic() + 30
while not count and time.monotonic() < until:
    time.sleep(0.02)
time.sleep(0.5)
open("count", "w").write(str(len(count)))
"""
STOPPED_PARENT = """
import os, signal, sys, time
from pathlib import Path
from offpol.bench import pool as pools
pools.COMMAND = (sys.executable, "counting.py")
pool = pools.Pool()
pool.start("run", [], Path("run.log"))
while not Path("ready").exists():
    time.sleep(0.02)
pool.ask_to_end()
pool.ask_to_end()
time.sleep(0.2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_bench_that_is_stopped_and_then_killed_asks_its_runs_once(tmp_path: Path) -> None:
    """As `ray job stop` and Slurm do it: a run that is asked twice ends without saving."""
    (tmp_path / "counting.py").write_text(COUNTING)
    subprocess.run([sys.executable, "-c", STOPPED_PARENT], cwd=tmp_path, check=False)
    count = tmp_path / "count"
    assert wait_for(lambda: count.exists() and bool(count.read_text()))
    assert count.read_text() == "1"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_a_killed_bench_leaves_no_orphans(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(ORPHAN)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path)
    files = [tmp_path / f"{kind}.pid" for kind in ("willing", "deaf")]
    assert wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    children = [int(file.read_text()) for file in files]
    assert all(map(alive, children))
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(map(alive, children)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_runs_killed_and_resumed_end_as_if_never_interrupted(tmp_path: Path) -> None:
    words = [*TINY, "run.agent_steps=4000", "run.checkpoint_every_agent_steps=500", "seed=0,1", "jobs=1"]
    command = [sys.executable, "-m", "offpol.bench.command", *words]
    whole = subprocess.run([*command, "out=whole"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    first = subprocess.Popen([*command, "out=cut"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert wait_for(lambda: bool(list((tmp_path / "cut").rglob("checkpoints/000001/manifest.json"))), 120)
    first.kill()
    first.wait()
    assert wait_for(lambda: Path("/proc").exists() and not running_in(tmp_path), 60)
    again = subprocess.run([*command, "out=cut"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 to go on, 1 to start" in again.stdout
    ours, theirs = (
        {run.seed: (run.directory / "episodes.csv").read_bytes() for run in find_runs([tmp_path / name])}
        for name in ("cut", "whole")
    )
    assert ours == theirs
    assert set(ours) == {0, 1}


def running_in(folder: Path) -> list[str]:
    """List the processes whose working folder this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder:
                found.append(process.name)
        except OSError:  # gone, or not ours
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_runs_go_through_hydras_launchers(tmp_path: Path, launcher: str) -> None:
    if launcher != "basic":
        plugin = f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"
        pytest.importorskip(plugin, reason="of the extra sweep")
    words = [*TINY, "seed=0,1", "out=runs", f"hydra/launcher={launcher}"]
    command = [sys.executable, "-m", "offpol.bench.command", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by the launcher" in done.stdout
    assert done.stdout.count("finished: default Chain-8") == 2
    assert sum(run.finished for run in find_runs([tmp_path / "runs"])) == 2


@pytest.fixture
def launched(offpol_bench, monkeypatch) -> Callable[..., Outcome]:
    """The command with Hydra's own launcher, which runs the stand-in in this process, one after the other."""
    return lambda *words: offpol_bench(*words, "hydra/launcher=basic")


def test_a_launcher_lists_failures_and_goes_on(launched: Callable[..., Outcome]) -> None:
    words = (*WORDS[:2], "seed=0", "out=runs")
    write_deeds({"Pong": "fail"}, words)
    outcome = launched(*words)
    assert outcome.code == 1
    assert "failed: default Pong seed 0: ValueError: the reason" in outcome.out
    assert "finished: default Krull seed 0" in outcome.out


def test_a_job_that_a_cluster_runs_again_goes_on_from_its_checkpoint(launched: Callable[..., Outcome]) -> None:
    """The plan says start, but by the time the job is run there is a checkpoint."""
    words = (*WORDS[:2], "seed=0", "out=runs")
    write_deeds({}, words)
    grid = [word for word in words if not word.startswith(("suite=", "out="))]
    planned = tasks(expand(load_suite("s6"), grid), [], Path("runs"))
    (planned[0].directory / "checkpoints" / "000001").mkdir(parents=True)
    (planned[0].directory / "checkpoints" / "000001" / "manifest.json").write_text('{"about": {"agent_steps": 1}}')
    runs = launcher.Runs((planned[0],), None)
    started = []

    def start_child(arguments: list[str], log: Path) -> SimpleNamespace:
        started.append(arguments)
        return SimpleNamespace(wait=lambda: 0, stdin=SimpleNamespace(close=lambda: None))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "start_child", start_child)
        now = SimpleNamespace(job=SimpleNamespace(num=0))
        patch.setattr(launcher, "HydraConfig", SimpleNamespace(get=lambda: now))
        assert runs(None) == 0
    assert [parse_assignments(arguments) for arguments in started] == [{"resume": str(planned[0].directory)}]


def test_a_launcher_that_stops_waiting_is_said(launched: Callable[..., Outcome], monkeypatch) -> None:
    def stop(*arguments, **more) -> None:
        raise RuntimeError("job 7 was ended by the cluster\nmore")

    monkeypatch.setattr(launcher.Plugins, "instantiate_launcher", lambda *_, **__: SimpleNamespace(launch=stop))
    outcome = launched(*WORDS[:2], "seed=0", "out=runs")
    assert outcome.code == 1
    assert "The launcher stopped waiting (RuntimeError: job 7 was ended by the cluster)" in outcome.out
    assert "failed: default Pong seed 0: not finished yet: never begun" in outcome.out


@pytest.mark.parametrize(("log", "why"), [
    ("12% of it\nTraceback (most recent call last):\n  raise\nValueError: no licence\nThe run ended at 0\n",
     "ValueError: no licence"),
    ("Traceback (most recent call last):\nmy_package.OutOfIt\nValueError: first\noffpol: run is being written\n",
     "offpol: run is being written"),
    ("ValueError: earlier\nThe run ended at 0\n34% of it\nChain-8 hangs\n", "Chain-8 hangs"),
    ("12% of it\n", "12% of it"), ("", "exit code 1, nothing printed"),
])  # fmt: skip
def test_the_reason_of_a_failure_is_what_was_raised(log: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log)
    assert pool.reason(1, tmp_path / "log") == why
