"""The report in a real browser: wide and narrow, dark, printed, by pointer and by keyboard."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Pages, low_contrasts, started_browser
from PIL import Image
from small_nsd import write_small_nsd

import nsd_prep
from nsd_prep.core.errors import FailedChecksError

pytestmark = pytest.mark.browser

WIDTHS = (1300, 400)
SCHEMES = ("light", "dark")
#: What a keyboard must reach.
REACHABLE = "a[href], summary, button, input, select, [tabindex='0']"
#: Gives a cell that has a value: row, column, value (None where it is packed), and its middle.
A_CELL = """(figure) => {
  const matrix = JSON.parse(figure.querySelector("script.cells").textContent)[0];
  const columns = matrix.columns ?? matrix.rows;
  const [left, top, width, height] = matrix.box;
  for (let i = 0; i < matrix.rows.length; i++) {
    for (let j = 0; j < columns.length; j++) {
      const value = matrix.values ? matrix.values[i][j] : null;
      if (matrix.values ? value === null : i === j) continue;
      const x = left + ((j + 0.5) / columns.length) * width;
      const y = top + ((i + 0.5) / matrix.rows.length) * height;
      return [matrix.rows[i], columns[j], value, x, y];
    }
  }
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Pages]:
    """Start a browser."""
    with started_browser() as pages:
        yield pages


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a report with checks of every verdict: the small dataset is noise."""
    folder = tmp_path_factory.mktemp("report")
    root = write_small_nsd(folder / "nsd").root
    with suppress(FailedChecksError):
        nsd_prep.prepare(nsd_root=root, output_dir=folder / "out", regions=["V1", "V2"])
    return folder / "out" / "report" / "index.html"


@contextmanager
def shown(browser: Pages, report: Path, width: int = 1300, scheme: str = "light") -> Iterator[Any]:
    """Give the page of a report, with every part of it opened."""
    with browser.page(width, color_scheme=scheme, reduced_motion="reduce") as page:
        page.goto(report.as_uri())
        yield page


def open_all(page: Any) -> None:
    """Open everything that can be opened."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
class TestEveryReader:
    def test_text_has_the_contrast_of_wcag_aa(
        self, browser: Pages, report: Path, width: int, scheme: str
    ) -> None:
        with shown(browser, report, width, scheme) as page:
            open_all(page)
            assert low_contrasts(page) == []

    def test_nothing_is_wider_than_the_window(
        self, browser: Pages, report: Path, width: int, scheme: str
    ) -> None:
        with shown(browser, report, width, scheme) as page:
            open_all(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            # What is wider scrolls by itself.
            outside = page.evaluate(
                "(width) => [...document.querySelectorAll('main p, main dl, figure, summary')]"
                ".filter((one) => one.getBoundingClientRect().right > width + 1)"
                ".map((one) => one.outerHTML.slice(0, 80))",
                width,
            )
            assert outside == []

    def test_nothing_is_requested_and_nothing_complains(
        self, browser: Pages, report: Path, width: int, scheme: str
    ) -> None:
        browser.requests.clear()
        browser.messages.clear()
        with shown(browser, report, width, scheme) as page:
            open_all(page)
            page.mouse.wheel(0, 20_000)
            page.wait_for_timeout(300)
        asked = [url for url in browser.requests if not url.startswith("data:")]
        assert asked == [report.as_uri()]
        assert browser.messages == []


def test_contrast_is_measured(browser: Pages) -> None:
    with browser.page(400) as page:
        page.set_content(
            "<p style='color: #767676'>enough</p><p style='color: #777'>too little</p>"
            "<p style='color: #949494; font-size: 24px'>large</p>"
            "<div style='background: #000'><p style='color: #555'>on black</p></div>"
            "<p style='color: #0006'>through</p><p style='display: none; color: #fff'>hidden</p>"
        )
        found = [text for text, *_ in low_contrasts(page)]
    assert found == ["too little", "on black", "through"]


class TestFigures:
    def test_each_has_an_alternative_text_that_is_its_title(
        self, browser: Pages, report: Path
    ) -> None:
        with shown(browser, report) as page:
            texts = page.eval_on_selector_all("img", "(all) => all.map((one) => one.alt)")
            titles = page.eval_on_selector_all(
                "img",
                "(all) => all.map((one) => one.closest('figure').querySelector('b').innerText)",
            )
        assert [f"{text}." for text in texts] == titles
        assert len(set(texts)) == len(texts) > 5

    def test_values_are_shown_under_the_pointer_and_go_with_it(
        self, browser: Pages, report: Path
    ) -> None:
        with shown(browser, report) as page:
            figures = page.locator("figure:has(script.cells)")
            assert figures.count() > 0
            for number in range(figures.count()):
                image = figures.nth(number).locator("img")
                row, column, value, x, y = figures.nth(number).evaluate(A_CELL)
                size = image.bounding_box()
                image.hover(position={"x": x * size["width"], "y": y * size["height"]})
                text = page.locator(".tip").inner_text()
                assert text.startswith(f"{row}, {column}: ")
                assert value is None or text.endswith(str(value).replace("-", "\u2212"))
                page.mouse.move(1, 1)
                assert not page.locator(".tip").is_visible()


class TestKeyboard:
    def test_reaches_everything_in_order_and_shows_where_it_is(
        self, browser: Pages, report: Path
    ) -> None:
        with shown(browser, report) as page:
            open_all(page)
            page.evaluate(
                "(wanted) => [...document.querySelectorAll(wanted)]"
                ".forEach((one, number) => { one.dataset.number = number; })",
                REACHABLE,
            )
            expected = page.locator(REACHABLE).count()
            reached = []
            for _ in range(expected):
                page.keyboard.press("Tab")
                number, outline, is_shown = page.evaluate(
                    "() => { const one = document.activeElement;"
                    " const style = getComputedStyle(one); const box = one.getBoundingClientRect();"
                    " return [Number(one.dataset.number), style.outlineStyle,"
                    " box.bottom > 0 && box.top < innerHeight && box.right > 0]; }"
                )
                reached.append(number)
                assert outline != "none", number
                assert is_shown, number
            assert reached == list(range(expected))

    def test_opens_details_and_scrolls_tables(self, browser: Pages, report: Path) -> None:
        with shown(browser, report, width=400) as page:
            summary = page.query_selector("details:not([open]) > summary")
            summary.focus()
            page.keyboard.press("Enter")
            assert summary.evaluate("(one) => one.parentElement.open")
            open_all(page)
            wide = page.locator(".scroll:not(.picture)").evaluate_all(
                "(all) => all.findIndex((one) => one.scrollWidth > one.clientWidth + 20)"
            )
            table = page.locator(".scroll:not(.picture)").nth(wide)
            table.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(400)
            assert table.evaluate("(one) => one.scrollLeft") > 0

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("kind", [".picture", ".scroll:has(table)"])
    def test_a_shadow_says_that_more_is_beside(
        self, browser: Pages, report: Path, scheme: str, kind: str
    ) -> None:
        def edge(figure: Any) -> float:
            picture = Image.open(io.BytesIO(figure.screenshot())).convert("L")
            right = np.asarray(picture, dtype=float)[8:-24, -9:-3]  # inside the border
            return float(np.median(right))

        with shown(browser, report, width=400, scheme=scheme) as page:
            wide = page.locator(kind).evaluate_all(
                "(all) => all.findIndex((one) => one.scrollWidth > one.clientWidth + 20)"
            )
            figure = page.locator(kind).nth(wide)
            before = edge(figure)
            figure.evaluate("(one) => { one.scrollLeft = one.scrollWidth; }")
            page.wait_for_timeout(200)
            assert abs(before - edge(figure)) > 20


class TestPrinted:
    def test_is_light_and_whole_also_where_the_screen_is_dark(
        self, browser: Pages, report: Path
    ) -> None:
        with shown(browser, report, scheme="dark") as page:
            page.emulate_media(media="print", color_scheme="light")
            assert low_contrasts(page) == []
            hidden = page.locator("details.rows td").evaluate_all(
                "(all) => all.filter((one) => one.getBoundingClientRect().height === 0).length"
            )
            assert hidden == 0
            page.set_viewport_size({"width": 700, "height": 1000})  # A4 with margins
            assert page.evaluate("document.documentElement.scrollWidth") <= 700, "shrunk for that"
            printed = page.pdf(format="A4", print_background=True)
        n_pages = len(re.findall(rb"/Type /Page\b(?!s)", printed))
        assert 3 < n_pages < 30
