"""A SLURM cluster on this machine: dask-jobqueue's own stand-in, whose jobs are given to bash."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from dask_jobqueue.local import LocalCluster, LocalJob


class _Job(LocalJob):  # type: ignore[misc]
    def __init__(self, *positional: Any, account: str, **options: Any) -> None:
        super().__init__(*positional, project=account, **options)

    async def _submit_job(self, script_filename: str) -> str:
        # The whole script, its prologue too, as sbatch hands it to a shell.
        script = Path(script_filename).read_text()
        job = subprocess.Popen(["bash", "-euc", script], start_new_session=True)
        return f"Submitted batch job {job.pid}"

    @classmethod
    async def _close_job(cls, job_id: str, cancel_command: str) -> None:  # noqa: ARG003
        with suppress(ProcessLookupError):
            os.killpg(int(job_id), signal.SIGKILL)


class SLURMCluster(LocalCluster):  # type: ignore[misc]
    """Takes what `dask_jobqueue.SLURMCluster` takes, as far as the documentation gives it."""

    job_cls = _Job
