"""Deployments of the flow, for people who installed the package without its repository."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Final

from nsd_prep.core.atomic import write_text
from nsd_prep.core.errors import OutputError

#: docs/operating.md describes each of them.
FILES: Final = ("prefect.yaml", "docker.yaml", "serve.py", "notify.py", "lost-runs.yaml")


def write_deployments(folder: Path) -> list[Path]:
    """Write the deployments' files into a folder, none where one there differs; return paths."""
    texts = {
        folder / name: (files(__package__) / name).read_text(encoding="utf-8") for name in FILES
    }
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise OutputError(
                f"{path} already exists and differs from the file of this version: move it away, "
                "or choose another folder."
            )
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def dataset_root() -> dict[str, str]:
    """Return ``nsd_root`` from the server's variable, or else NSD_ROOT, where one is set."""
    from prefect.variables import Variable

    root = Variable.get("nsd_root") or os.environ.get("NSD_ROOT")
    return {"nsd_root": str(root)} if root else {}


def worker_folder() -> dict[str, str]:
    """Go to the folder in which a worker was started: the step before a run of a deployment.

    Prefect starts a run in a temporary folder, in which relative paths would be lost with it.
    """
    said, folder = os.environ.get("PWD", ""), folder_of_parent()
    if Path(said).is_absolute() and Path(said).is_dir():
        if folder is None or folder.samefile(said):
            os.chdir(said)
            return {"directory": said}
        raise OutputError(  # which of the two is meant?
            f"The worker was started in {folder}, while PWD is {said!r}: expected one folder that "
            "relative paths start from; start the worker from a shell in that folder, or set PWD "
            "to the folder in which the worker is started."
        )
    if folder is None:
        raise OutputError(
            "The worker's folder is unknown: expected it in PWD, which shells set, found "
            f"{said!r}; start the worker from a shell, or set PWD to the folder that relative "
            "paths start from."
        )
    os.chdir(folder)
    return {"directory": str(folder)}


def folder_of_parent() -> Path | None:
    """Return the folder of the process that started this one, here of the worker; None if unknown.

    PWD is what a shell has set: a program that starts another in a folder leaves it as it is.
    """
    try:
        folder = Path(f"/proc/{os.getppid()}/cwd").readlink()
        return folder if folder.is_dir() else None
    except OSError:  # another system than Linux, or another user's process
        return None
