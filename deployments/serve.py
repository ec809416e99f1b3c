"""Serve the deployments of prefect.yaml from one process, without a worker or a work pool.

Run ``python deployments/serve.py --help``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import yaml

from nsd_prep.core.errors import NSDPrepError
from nsd_prep.deployments import dataset_root
from nsd_prep.flows.server import require_server

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

_FILE: Final = Path(__file__).with_name("prefect.yaml")
#: Fields for `prefect deploy` and workers alone.
_WORKER_FIELDS: Final = ("entrypoint", "work_pool", "triggers")


def described_deployments(file: Path = _FILE) -> list[dict[str, Any]]:
    """Return what a file of ``prefect deploy`` says of its deployments, as it stands."""
    return list(yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"])


def with_root(described: Sequence[dict[str, Any]], root: dict[str, str]) -> list[dict[str, Any]]:
    """Return deployments with the root that `dataset_root` says; without one where it says none."""
    from prefect.utilities.templating import apply_values

    return list(apply_values(list(described), {"dataset": root}))


def served_deployments(described: Sequence[dict[str, Any]]) -> list[RunnerDeployment]:
    """Return deployments to be served, in order, with ``-served`` after their names."""
    from prefect.flows import load_flow_from_entrypoint

    return [
        cast(
            "RunnerDeployment",
            load_flow_from_entrypoint(deployment["entrypoint"]).to_deployment(
                **_options(deployment)
            ),
        )
        for deployment in described
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
        for schedule in described.get("schedules", [])
    ]
    return options


def main() -> None:
    """Serve until interrupted."""
    command = argparse.ArgumentParser(
        prog="serve.py",
        description="Serve the deployments of prefect.yaml from this process, under their names "
        "with '-served': runs triggered in Prefect's UI or by a schedule are executed "
        "here, each in its own process. Needs a server: give its address in "
        "PREFECT_API_URL (export PREFECT_API_URL=http://127.0.0.1:4200/api). Press "
        "Ctrl-C to stop.",
    )
    command.add_argument(
        "--limit",
        type=int,
        metavar="N",
        default=1,
        help="maximum number of concurrent runs; %(default)s by default",
    )
    arguments = command.parse_args()
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "nsd_prep")
    try:
        require_server()
    except NSDPrepError as error:
        raise SystemExit(f"error: {error}") from None

    from prefect import serve

    described = with_root(described_deployments(), dataset_root())
    serve(*served_deployments(described), limit=arguments.limit)


if __name__ == "__main__":
    main()
