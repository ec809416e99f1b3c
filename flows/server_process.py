"""The process of a temporary server: Prefect's command, which ends when its owner is gone.

Standard input is a pipe whose other end only the owner holds, and never writes into. However the
owner ends, also by ``kill -9``, the operating system closes it.
"""

import gc
import os
import signal
import threading
import time

_STOP_SECONDS = 5


def _end_with_owner() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_owner, daemon=True).start()
    # While the libraries are imported, the collector would look through them again and again: a
    # fifth of the server's start.
    gc.set_threshold(100_000)

    from prefect.cli import app

    app()
