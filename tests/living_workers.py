"""The worker processes that tests have started."""

import psutil


def living_workers() -> list[psutil.Process]:
    """Return those of `nsd_prep.core.processes` that this process has started and that live."""
    return [
        process
        for process in psutil.Process().children()
        if process.status() != psutil.STATUS_ZOMBIE
        and "nsd_prep.core.processes" in " ".join(process.cmdline())
    ]
