"""What is still alive of a run that a test started."""

import subprocess
from pathlib import Path


def living(session: int) -> dict[int, str]:
    """List processes [pid: command line] of a session; torchrun gives its children sessions of their own."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,sid,stat,args"], capture_output=True, text=True, check=True).stdout
    table = [line.split(None, 4) for line in listed.splitlines()[1:]]
    alive = [(int(pid), int(parent), int(sid), args) for pid, parent, sid, stat, args in table if stat[0] != "Z"]
    found = {pid: args for pid, _, sid, args in alive if sid == session}
    return found | {pid: args for pid, parent, _, args in alive if parent in found}


def folders_of_ray(pid: int) -> list[str]:
    """List what is left of the folder that a run's Ray wrote to."""
    return [str(path) for path in Path("/tmp").glob(f"offpol-ray-{pid}-*")]
