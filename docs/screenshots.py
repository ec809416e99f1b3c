"""Take the screenshots of the README, from the pages of a running Prefect server.

Needs the server that PREFECT_API_URL names, with its pages at the same address, the deployments,
and a finished run of ``synthetic``; Debian's ``chromium`` and ``chromium-driver``; and selenium
from PyPI. From the repository's root: ``python docs/screenshots.py``.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # With a mouse, as people have: without one, lists are shown as on a telephone.
    "--blink-settings=primaryPointerType=4,availablePointerTypes=4,"
    "primaryHoverType=2,availableHoverTypes=2",
)
_LOAD_SECONDS: Final = 60
_DRAW_SECONDS: Final = 3  # animations and charts
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
        In the README's order.

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
    (checks,) = _ask(
        "POST",
        f"{api}/artifacts/filter",
        json={
            "flow_runs": {"id": {"any_": [run]}},
            "artifacts": {"key": {"any_": ["checks"]}, "type": {"any_": ["table"]}},
        },
    )
    form = f"/deployments/deployment/{real}/run"
    return [
        Shot("deployment-form", form, None, "regions_file", 1100, 1150),
        Shot("finished-run", f"/runs/flow-run/{run}", "Artifacts", "What came out", 1300, 1150),
        Shot("checks", f"/artifacts/artifact/{checks['id']}", None, "expectation", 1300, 900),
    ]


def _ask(method: str, url: str, **request: Any) -> Any:
    return httpx.request(method, url, timeout=30, **request).raise_for_status().json()


@contextmanager
def _browser() -> Iterator[Chrome]:
    with tempfile.TemporaryDirectory() as profile:
        options = ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = Chrome(options=options, service=ChromeService("/usr/bin/chromedriver"))
        try:
            yield browser
        finally:
            browser.quit()


def _take(browser: Chrome, server: str, shot: Shot, folder: Path) -> Path:
    browser.set_window_size(shot.width, shot.height)
    browser.get(server + shot.page)
    wait = WebDriverWait(browser, _LOAD_SECONDS)
    if shot.clicked:
        named = (By.XPATH, f"(//*[normalize-space(.)='{shot.clicked}'])[last()]")
        wait.until(expected_conditions.element_to_be_clickable(named)).click()
    wait.until(
        expected_conditions.text_to_be_present_in_element((By.TAG_NAME, "body"), shot.expected)
    )
    time.sleep(_DRAW_SECONDS)
    file = folder / f"{shot.name}.png"
    browser.save_screenshot(str(file))
    if file.stat().st_size > _LARGEST:
        raise SystemExit(f"{file} has {file.stat().st_size} bytes: choose a smaller window.")
    return file


def main() -> None:
    """Take them all."""
    command = argparse.ArgumentParser(prog="screenshots.py", description=__doc__)
    command.add_argument("--folder", type=Path, default=Path(__file__).parent)
    given = command.parse_args()
    api = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with _browser() as browser:
        for shot in find_shots(api):
            print(_take(browser, api.removesuffix("/api"), shot, given.folder))  # noqa: T201


if __name__ == "__main__":
    main()
