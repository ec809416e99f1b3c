"""Take the documentation's screenshots, of the pages of a running Prefect server and of a report.

Needs the server that PREFECT_API_URL names, with its pages at the same address, the deployments,
and a finished run of ``synthetic``; Debian's ``chromium``; and playwright from PyPI. From the
repository's root: ``python docs/screenshots.py --report OUTPUT/report/index.html``. A test takes
them as well, and compares the words on the pages with those saved in the pictures, in the
``Description`` of each.
"""

import argparse
import calendar
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Page, sync_playwright

#: With a mouse, as people have: without one, lists are shown as on a telephone.
MOUSE: Final = (
    "--blink-settings=primaryPointerType=4,availablePointerTypes=4,"
    "primaryHoverType=2,availableHoverTypes=2"
)
_LOAD_MILLISECONDS: Final = 60_000
_DRAW_MILLISECONDS: Final = 3_000  # animations and charts
_LARGEST: Final = 300_000
#: The report: parts of its page beside each other, each from its top or from a heading on.
_PARTS_OF_REPORT: Final = (
    None,
    "Representational geometry",
    "Agreement between regions and subjects",
)
_PART_WIDTH, _PART_HEIGHT, _SCALE, _GAP = 780, 1230, 2 / 3, 12
#: Returns the words that a window shows.
_SHOWN_WORDS: Final = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange(), shown = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (["SCRIPT", "STYLE"].includes(parent.tagName) || !parent.checkVisibility()) continue;
    range.selectNodeContents(walker.currentNode);
    const { left, right, top, bottom } = range.getBoundingClientRect();
    if (right > Math.max(left, 0) && bottom > 0 && left < innerWidth && top < innerHeight) {
      shown.push(...walker.currentNode.textContent.trim().split(/\\s+/));
    }
  }
  return shown.filter((word) => word);
}"""


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
        Shot("finished-run", f"/runs/flow-run/{run}", "Artifacts", "What came out", 1300, 1480),
        Shot("checks", f"/artifacts/artifact/{checks['id']}", None, "expectation", 1300, 900),
    ]


def _ask(method: str, url: str, **request: Any) -> Any:
    return httpx.request(method, url, timeout=30, **request).raise_for_status().json()


def take(browser: Browser, api: str, report: Path, folder: Path) -> list[Path]:
    """Take all screenshots.

    Parameters
    ----------
    browser : Browser
        Started with `MOUSE`.
    api : str
        Address of the server's API.
    report : Path
        The page of a report, of the demo dataset.
    folder : Path
        Where the pictures are written.

    Returns
    -------
    list of Path
        The pictures; `words_of` gives what is written on them.

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
        picture, words = _seen(page)
        page.close()
        files.append(_write(picture, words, folder / f"{shot.name}.png"))
    return [*files, _take_report(browser, report, folder / "report.png")]


def _take_report(browser: Browser, report: Path, file: Path) -> Path:
    """Take parts of a report's page, and set them beside each other."""
    page = browser.new_page(
        viewport={"width": _PART_WIDTH, "height": _PART_HEIGHT}, device_scale_factor=_SCALE
    )
    page.goto(report.resolve().as_uri())
    pictures, words = [], []
    for heading in _PARTS_OF_REPORT:
        if heading:
            page.get_by_role("heading", name=heading).evaluate(
                "(one) => scrollTo(0, one.getBoundingClientRect().top + scrollY - 24)"
            )
            page.wait_for_timeout(_DRAW_MILLISECONDS)
        picture, shown = _seen(page)
        pictures.append(picture)
        words += shown
    page.close()
    width, height = pictures[0].size
    whole = Image.new("RGB", (len(pictures) * (width + _GAP) - _GAP, height), "#d9dde3")
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place * (width + _GAP), 0))
    return _write(whole, words, file)


def _seen(page: Page) -> tuple[Image.Image, list[str]]:
    """Return what a window shows, as a picture and as words."""
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB"), page.evaluate(_SHOWN_WORDS)


def _write(picture: Image.Image, words: list[str], file: Path) -> Path:
    text = PngInfo()
    text.add_itxt("Description", " ".join(words))
    picture.quantize(256).save(file, optimize=True, pnginfo=text)
    if file.stat().st_size > _LARGEST:
        raise SystemExit(f"{file} has {file.stat().st_size} bytes: choose a smaller window.")
    return file


def words_of(file: Path) -> set[str]:
    """Return the words that are written on a picture, but for what each run has of its own.

    That is numbers, times and names of runs.

    Parameters
    ----------
    file : Path
        A picture, as `take` writes it; for any other picture, none.
    """
    with Image.open(file) as picture:
        words = str(picture.info.get("Description", "")).split()
    return {word for word in words if word.isalpha()} - {"AM", "PM", *calendar.month_abbr}


def main() -> None:
    """Take them all."""
    command = argparse.ArgumentParser(prog="screenshots.py", description=__doc__)
    command.add_argument("--folder", type=Path, default=Path(__file__).parent)
    command.add_argument("--report", type=Path, required=True)
    given = command.parse_args()
    api = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with sync_playwright() as driver:
        options = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox", MOUSE]}
        browser = driver.chromium.launch(**options)
        for file in take(browser, api, given.report, given.folder):
            print(file)  # noqa: T201


if __name__ == "__main__":
    main()
