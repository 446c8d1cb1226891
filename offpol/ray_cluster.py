"""Ray for one run: started on this machine and gone with the run, or joined where it is running already."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from offpol.deadline import Deadline
from offpol.errors import ConfigError, install
from offpol.output import tell

LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: listen on the loopback interface only
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default 15: beside other programs, workers would hardly ever get a core
    "RAY_AUTH_MODE": "token",  # by a token of this run's own, which no file holds
}
# Ray reads mode and token when it is imported: all runs of a process, as those of a sweep, have one token.
TOKEN = secrets.token_hex(32)
TOO_LATE = "ray" in sys.modules
PREFIX = "offpol-ray-"  # of a run's folder in /tmp, followed by its process
SMALLEST_STORE_BYTES = 100_000_000  # Ray refuses less
JOINED_S = 60.0  # in which a cluster lets a run in


def require_ray() -> None:
    """Raise ValueError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"Ray is not installed: {install('ray')}, or use topology=threads.")


@contextlib.contextmanager
def cluster(address: str | None, num_workers: int, store_bytes: int, go_on: Callable[[], str]) -> Iterator[Any]:
    """Yield the connected module `ray`; raise ConfigError where nothing answers at an address, or Ray came too early.

    Without an address Ray is started here, with room for `num_workers` and for `store_bytes` of objects on their way.
    It listens on the loopback interface only, writes to a folder that goes with it, and asks for a token that only this
    process and its workers know. Ray's signal handlers are taken out again: the run has its own. Where Ray itself dies,
    so does this process (Ray sees to that), once it has said so and how to `go_on`.
    """
    if TOO_LATE and address is None:
        raise ConfigError(
            "Ray was imported in this process before, and cannot be given a token any more. Start the run in a process "
            "of its own; where an env or a network of yours imports Ray, start Ray yourself (ray start --head) and "
            "name it by topology.address=auto."
        )
    before = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    folder = None if address else _new_folder()
    if folder:
        os.environ.update(LOCAL, RAY_AUTH_TOKEN=TOKEN)
    try:
        import ray

        if folder:
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=num_workers, include_dashboard=False, log_to_driver=False, configure_logging=False,
                object_store_memory=max(store_bytes, SMALLEST_STORE_BYTES), _temp_dir=folder,
            )  # fmt: skip
        else:
            _join(ray, str(address), num_workers)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        over = threading.Event()
        watching = threading.Thread(target=_watch, args=(ray, folder, go_on, over), name="ray watch", daemon=True)
        if folder:
            watching.start()
        try:
            yield ray
        finally:
            over.set()
            if folder:
                watching.join()  # or it would take the end for a death
            ray.shutdown()
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        if folder:
            _remove(folder)


def _watch(ray: Any, folder: str | None, go_on: Callable[[], str], over: threading.Event) -> None:
    node = ray._private.worker._global_node  # Ray has no public word for the processes that it started
    while not over.wait(0.2):
        if dead := [kind for kind, _ in node.dead_processes() if kind in ("raylet", "gcs_server")]:
            tell(f"offpol: Ray's own {' and '.join(dead)} died, and its workers with that; {go_on()}")
            _remove(str(folder))
            os._exit(1)


def _new_folder() -> str:
    """Make a folder for Ray's sockets, which want a short path, and logs; remove those that killed runs left."""
    for left in Path("/tmp").glob(f"{PREFIX}*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):  # another run may be removing it
            if left.lstat().st_uid == os.getuid() and not Path("/proc", owner).exists():
                _remove(str(left))
    return tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp")


def _remove(folder: str) -> None:
    """Remove a folder that processes which are just ending may still write to."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(0.1)


def _join(ray: Any, address: str, num_workers: int) -> None:
    what = f"what answers at topology.address={address} has not let this run in within {JOINED_S:g} s: is it Ray?"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host:  # Ray itself would try for more than a minute
            socket.create_connection((host, int(port)), timeout=10).close()
        with contextlib.closing(Deadline(JOINED_S, lambda: what)) as deadline, deadline:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"topology.address is {address}, but no Ray answers there ({str(error).splitlines()[0]}): give the "
            "HOST:PORT of a running head node, auto for the one on this machine, or null to start one."
        ) from error
    if (cores := ray.cluster_resources().get("CPU", 0)) < num_workers:
        tell(
            f"offpol: The cluster at {address} has {cores:g} cores, and topology.num_workers={num_workers} take one "
            "each: those without wait until there are more nodes, and are given up after topology.deadline_s."
        )
