"""The process of a temporary server: Prefect's command, which ends when its owner is gone.

Standard input is a pipe whose other end only the owner holds, and never writes into. However the
owner ends, also by ``kill -9``, the operating system closes it. The first argument is the folder of
the server's database, which is removed then; the others are those of Prefect's command.
"""

import gc
import os
import shutil
import sys
import threading


def _end_with_owner(folder: str) -> None:
    os.read(0, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    folder = sys.argv.pop(1)
    # Prefect reads settings from files of the working folder, which is the user's.
    os.chdir(folder)
    threading.Thread(target=_end_with_owner, args=(folder,), daemon=True).start()
    # While the libraries are imported, the collector would look through them again and again: a
    # fifth of the server's start.
    gc.set_threshold(100_000)

    from prefect.cli import app

    app()
