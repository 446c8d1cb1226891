"""One run of a bench: `offpol` in a process that ends with the bench.

Standard input is a pipe whose other end only the bench holds. When it closes, because the bench ended or was killed,
the run is asked to save itself and end; what does not end in time is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE_S = 300.0  # for a checkpoint


def end_with_parent() -> None:
    """Wait until the bench is gone, then end this process."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run `offpol` with this process's arguments."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    from offpol.main import main as offpol

    sys.argv[0] = "offpol"
    offpol()


if __name__ == "__main__":
    main()
