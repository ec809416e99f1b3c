"""Serve the deployments of prefect.yaml from one process, without a worker or a work pool.

Run ``python deployments/serve.py --help``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import yaml

from nsd_prep.core.errors import NSDPrepError
from nsd_prep.flows.server import require_server

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

_FILE: Final = Path(__file__).with_name("prefect.yaml")
#: Fields for `prefect deploy` and workers alone.
_WORKER_FIELDS: Final = ("entrypoint", "work_pool")


def served_deployments(flow: Flow[..., Any], file: Path = _FILE) -> list[RunnerDeployment]:
    """Return the deployments that a file of ``prefect deploy`` describes, to be served.

    Parameters
    ----------
    flow : Flow
        The flow of all of them.
    file : Path
        YAML: the deployments with parameters, schedules, tags.

    Returns
    -------
    list of RunnerDeployment
        In the file's order, with ``-served`` after their names.
    """
    listed = yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"]
    return [
        cast("RunnerDeployment", flow.to_deployment(**_options(described))) for described in listed
    ]


def _options(described: dict[str, Any]) -> dict[str, Any]:
    from prefect.client.schemas.schedules import CronSchedule

    options = {name: value for name, value in described.items() if name not in _WORKER_FIELDS}
    # A name of its own: a deployment that had a work pool would keep it, and its worker.
    options["name"] += "-served"
    options["schedules"] = [
        {
            "schedule": CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]),
            "active": schedule["active"],
        }
        for schedule in described["schedules"]
    ]
    return options


def main() -> None:
    """Serve until interrupted."""
    command = argparse.ArgumentParser(
        prog="serve.py",
        description="Serve the deployments of prefect.yaml from this process, under their names "
        "with '-served': runs that are triggered in Prefect's UI, or by a schedule, are done here, "
        "each in a process of its own. Needs a server: give its address in PREFECT_API_URL "
        "(export PREFECT_API_URL=http://127.0.0.1:4200/api). Ctrl-C ends it.",
    )
    command.add_argument(
        "--limit",
        type=int,
        metavar="N",
        default=1,
        help="runs that are done at once; %(default)s by default",
    )
    given = command.parse_args()
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "nsd_prep")
    try:
        require_server()
    except NSDPrepError as error:
        raise SystemExit(f"error: {error}") from None

    from prefect import serve

    from nsd_prep.flows.nsd_flow import nsd_flow

    serve(*served_deployments(nsd_flow), limit=given.limit)


if __name__ == "__main__":
    main()
