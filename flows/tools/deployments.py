"""The command ``deployments``: the flow's Prefect deployments, to be edited."""

from pathlib import Path


def deployments(folder: Path = Path("deployments")) -> int:
    """Write a copy of the flow's Prefect deployments for you to edit (see docs/operating.md).

    Args:
        folder: Folder to write to; files that you have edited there are not overwritten.
    """
    from nsd_prep.deployments import write_deployments

    for path in write_deployments(folder):
        print(path)  # noqa: T201
    return 0
