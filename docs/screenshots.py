"""Take the documentation's screenshots, from the pages of a running Prefect server.

Needs the server that PREFECT_API_URL names, with its pages at the same address, the deployments,
and a finished run of ``synthetic``; Debian's ``chromium``; and playwright from PyPI. From the
repository's root: ``python docs/screenshots.py``. The test of the form takes them as well.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, sync_playwright

#: With a mouse, as people have: without one, lists are shown as on a telephone.
MOUSE: Final = (
    "--blink-settings=primaryPointerType=4,availablePointerTypes=4,"
    "primaryHoverType=2,availableHoverTypes=2"
)
_LOAD_MILLISECONDS: Final = 60_000
_DRAW_MILLISECONDS: Final = 3_000  # animations and charts
_LARGEST: Final = 300_000


@dataclass(frozen=True)
class Shot:
    """A page, what it shows once it is there, and the part of it that is taken.

    Attributes
    ----------
    name : str
        Of the PNG file.
    page : str
        Path at the server.
    clicked : str or None
        What is clicked on there, if anything.
    expected : str
        What stands there then.
    width, height : int
        Of the window, in pixels.
    """

    name: str
    page: str
    clicked: str | None
    expected: str
    width: int
    height: int


def find_shots(api: str) -> list[Shot]:
    """Return what is taken: the form of a deployment, a finished run, and its checks.

    Parameters
    ----------
    api : str
        Address of the server's API.

    Returns
    -------
    list of Shot
        In the documentation's order.

    Raises
    ------
    SystemExit
        There is no finished run yet.
    """
    real, synthetic = (
        _ask("GET", f"{api}/deployments/name/nsd-prep/{name}")["id"]
        for name in ("four-subjects", "synthetic")
    )
    finished = _ask(
        "POST",
        f"{api}/flow_runs/filter",
        json={
            "sort": "END_TIME_DESC",
            "deployments": {"id": {"any_": [synthetic]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        },
    )
    if not finished:
        raise SystemExit("No run of the deployment 'synthetic' has completed: trigger one first.")
    run = finished[0]["id"]
    checks = _ask(
        "POST",
        f"{api}/artifacts/filter",
        json={
            "sort": "CREATED_DESC",
            "flow_runs": {"id": {"any_": [run]}},
            "artifacts": {"key": {"any_": ["04-all-checks"]}, "type": {"any_": ["table"]}},
        },
    )[0]
    form = f"/deployments/deployment/{real}/run"
    return [
        Shot("deployment-form", form, None, "Output folder", 1100, 1150),
        Shot("finished-run", f"/runs/flow-run/{run}", "Artifacts", "What came out", 1300, 1150),
        Shot("checks", f"/artifacts/artifact/{checks['id']}", None, "expectation", 1300, 900),
    ]


def _ask(method: str, url: str, **request: Any) -> Any:
    return httpx.request(method, url, timeout=30, **request).raise_for_status().json()


def take(browser: Browser, api: str, folder: Path) -> list[Path]:
    """Take all screenshots.

    Parameters
    ----------
    browser : Browser
        Started with `MOUSE`.
    api : str
        Address of the server's API.
    folder : Path
        Where the pictures are written.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    SystemExit
        There is no finished run yet, or a picture is too large for the repository.
    """
    files = []
    for shot in find_shots(api):
        page = browser.new_page(viewport={"width": shot.width, "height": shot.height})
        page.set_default_timeout(_LOAD_MILLISECONDS)
        page.goto(api.removesuffix("/api") + shot.page)
        if shot.clicked:
            page.get_by_text(shot.clicked, exact=True).last.click()
        page.get_by_text(shot.expected).first.wait_for()
        page.wait_for_timeout(_DRAW_MILLISECONDS)
        file = folder / f"{shot.name}.png"
        page.screenshot(path=file)
        page.close()
        if file.stat().st_size > _LARGEST:
            raise SystemExit(f"{file} has {file.stat().st_size} bytes: choose a smaller window.")
        files.append(file)
    return files


def main() -> None:
    """Take them all."""
    command = argparse.ArgumentParser(prog="screenshots.py", description=__doc__)
    command.add_argument("--folder", type=Path, default=Path(__file__).parent)
    given = command.parse_args()
    api = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with sync_playwright() as driver:
        options = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox", MOUSE]}
        for file in take(driver.chromium.launch(**options), api, given.folder):
            print(file)  # noqa: T201


if __name__ == "__main__":
    main()
