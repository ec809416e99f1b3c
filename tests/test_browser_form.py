"""Prefect's pages as a person uses them: the form of a deployment, its run, what it leaves."""

import re
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import SCREENSHOTS, Pages, started_browser
from PIL import Image
from prefect_site import PATIENCE, Site, readme_block, running_site, until

pytestmark = pytest.mark.browser

TAKE_AGAIN = "take them again: python docs/screenshots.py --report OUTPUT/report/index.html"
TITLE_OF_ROOT = "NSD: folder or address"


@pytest.fixture(scope="module")
def browser() -> Iterator[Pages]:
    """Start a browser."""
    with started_browser() as pages:
        yield pages


@pytest.fixture(scope="module")
def site(browser: Pages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:  # noqa: ARG001
    """Start a server and, as the README says, a worker with the deployments."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        block = readme_block(".*prefect work-pool create")
        address = site.url.removeprefix("http://").removesuffix("/api")
        with site.running("worker", block.replace("127.0.0.1:4200", address)) as log:
            until(lambda: "Worker 'ProcessWorker" in log.read_text(), "a worker")
            yield site


@dataclass(frozen=True)
class Form:
    """The form of a deployment's run, in a page."""

    page: Any

    def field(self, title: str) -> Any:
        """Return what belongs to a parameter, by its title."""
        label = re.compile(rf"^{re.escape(title)}( \(Optional\))?$")
        labels = self.page.locator(".schema-form-property__label", has_text=label)
        return self.page.locator(".schema-form-property").filter(has=labels)

    def write(self, title: str, text: str) -> None:
        """Write into the field of a parameter; where it can be not set, choose that it is."""
        choice = self.field(title).get_by_role("button", name=re.compile("^(Folder|Path|Text)"))
        if choice.count():
            choice.click()
        self.field(title).locator("textarea, input").fill(text)

    def toggle(self, title: str, *values: Any) -> None:
        """Click on choices of a list of several: what was chosen is chosen no more."""
        self.field(title).locator(".p-select-button__control").focus()
        self.page.keyboard.press("Space")
        for value in values:
            option = self.page.get_by_role("option")
            option.filter(has_text=re.compile(rf"^{value}$")).click()
        self.page.get_by_text("Parameters", exact=True).click()
        self.page.get_by_role("option").first.wait_for(state="detached")

    def submit(self) -> None:
        """Send it."""
        self.page.get_by_role("button", name="Submit").click()


@contextmanager
def form(browser: Pages, site: Site, deployment: str) -> Iterator[Form]:
    """Open the form of a deployment's Custom run."""
    with browser.page(1300, 1150) as page:
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"{pages_of(site)}/deployments/deployment/{site.deployment(deployment)['id']}")
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").click()
        page.get_by_text("Output folder (Optional)").wait_for()
        yield Form(page)


def pages_of(site: Site) -> str:
    """Return the address of a server's pages."""
    return site.url.removesuffix("/api")


def badge(page: Any, state: str) -> Any:
    """Return where the page of a run says that it is in a state."""
    return page.locator(".state-badge", has_text=state).first


def in_dialog(page: Any) -> Any:
    """Return what a page asks before it does something."""
    return page.locator("#p-modal-teleport-target")


@contextmanager
def page_of_run(browser: Pages, site: Site, flow_run: str) -> Iterator[Any]:
    """Open the page of a run."""
    with browser.page(1300, 1150) as page:
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"{pages_of(site)}/runs/flow-run/{flow_run}")
        yield page


@pytest.fixture(scope="module")
def completed(
    browser: Pages, site: Site, tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Fill in the form with subjects 1 and 2 and regions V1 and IT; return the id of the run."""
    with form(browser, site, "four-subjects") as filled:
        filled.write(TITLE_OF_ROOT, str(tiny_nsd))
        filled.toggle("Subjects", 5, 7)
        filled.toggle("Regions", "V2", "V4")
        filled.write("Output folder", str(tmp_path_factory.mktemp("form") / "output"))
        filled.submit()
        filled.page.get_by_role("button", name="View run").last.wait_for()
        question = {
            "flow_runs": {"deployment_id": {"any_": [site.deployment("four-subjects")["id"]]}},
            "sort": "EXPECTED_START_TIME_DESC",
        }
        # Not by its button, which Prefect shows for some seconds.
        flow_run = str(site.ask("POST", "/flow_runs/filter", json=question)[0]["id"])
        filled.page.goto(f"{pages_of(site)}/runs/flow-run/{flow_run}")
        assert site.ended(flow_run)["type"] == "COMPLETED"
        badge(filled.page, "Completed").wait_for()
        return flow_run


class TestForm:
    def test_what_was_chosen_is_what_the_run_was_given(self, site: Site, completed: str) -> None:
        run = site.ask("GET", f"/flow_runs/{completed}")
        assert run["parameters"]["subjects"] == [1, 2]
        assert run["parameters"]["regions"] == ["V1", "IT"]
        assert run["name"].startswith("nsd: subjects 1, 2; V1 IT (")

    def test_without_a_root_it_is_refused_and_says_where(self, browser: Pages, site: Site) -> None:
        with form(browser, site, "four-subjects") as filled:
            filled.submit()
            message = filled.field(TITLE_OF_ROOT).locator(".p-label__message")
            message.wait_for()
            assert "required" in message.inner_text()

    @pytest.mark.parametrize(
        ("title", "value", "field"),
        [
            ("Expert: seed of the split", "-1", "seed"),
            ("Expert: fraction of training images", "1.5", "train_fraction"),
            ("Workers", "0", "workers"),
        ],
    )
    def test_a_wrong_value_is_refused_with_the_field_s_name(
        self, browser: Pages, site: Site, title: str, value: str, field: str
    ) -> None:
        with form(browser, site, "synthetic") as filled:
            filled.write(title, value)
            filled.submit()
            message = filled.page.get_by_text(f"Validation failed for field '{field}'").first
            message.wait_for()
            assert filled.page.get_by_text("View run").count() == 0

    def test_titles_are_words_and_the_usual_ones_come_first(
        self, browser: Pages, site: Site
    ) -> None:
        with form(browser, site, "synthetic") as filled:
            titles = filled.page.locator(".schema-form-property__label").all_inner_texts()
        assert titles[0] == TITLE_OF_ROOT
        assert not any("_" in title for title in titles)
        assert [title.startswith("Expert: ") for title in titles] == sorted(
            title.startswith("Expert: ") for title in titles
        )


class TestRun:
    def test_the_summary_leads_to_all_that_the_run_left(
        self, browser: Pages, site: Site, completed: str
    ) -> None:
        with page_of_run(browser, site, completed) as page:
            page.get_by_text("Artifacts", exact=True).last.click()
            page.get_by_text("01-summary").click()
            page.get_by_text("On this server").wait_for()
            links = page.locator("li a[href*='/artifacts/artifact/']")
            titles = links.all_inner_texts()
            assert titles[:3] == [
                "What the run will do",
                "Extracting sessions",
                "What was checked of the results",
            ]
            shown = {one["id"] for one in site.of_run("artifacts", completed)}
            led_to = [link.get_attribute("href").rsplit("/", 1)[-1] for link in links.all()]
            assert len(led_to) == len(set(led_to)) == len(shown) - 1
            assert set(led_to) < shown
            page.goto(f"{pages_of(site)}/artifacts/artifact/{led_to[2]}")
            page.get_by_text("expectation").first.wait_for()
            page.goto(f"{pages_of(site)}/artifacts/artifact/{led_to[3]}")
            page.get_by_text("neural assemblies").first.wait_for()

    def test_a_retry_is_a_run_that_completes_again(
        self, browser: Pages, site: Site, tmp_path: Path
    ) -> None:
        flow_run = site.trigger("synthetic", output_dir=str(tmp_path / "output"))
        assert site.ended(flow_run)["type"] == "COMPLETED"
        with page_of_run(browser, site, flow_run) as page:
            page.get_by_role("button", name="Retry").click()
            in_dialog(page).get_by_role("button", name="Retry").click()

            def again() -> bool:
                run = site.ask("GET", f"/flow_runs/{flow_run}")
                return run["run_count"] > 1 and run["state"]["type"] == "COMPLETED"

            until(again, "the end of the second try")

    def test_it_is_cancelled_on_its_page(self, browser: Pages, site: Site, tmp_path: Path) -> None:
        flow_run = site.trigger("synthetic", output_dir=str(tmp_path / "output"))
        until(
            lambda: site.ask("GET", f"/flow_runs/{flow_run}")["state"]["type"] == "RUNNING",
            "a run under way",
        )
        with page_of_run(browser, site, flow_run) as page:
            page.get_by_role("button", name="Cancel").click()
            in_dialog(page).get_by_role("button", name="Confirm").click()
            badge(page, "Cancelled").wait_for(timeout=1000 * PATIENCE)
        assert site.ended(flow_run)["type"] == "CANCELLED"
        assert "cancellation" in site.artifacts(flow_run, "cancellation")


class TestSchedule:
    def test_it_is_switched_on_and_off(self, browser: Pages, site: Site) -> None:
        def is_on() -> bool:
            (schedule,) = site.deployment("all-subjects")["schedules"]
            return bool(schedule["active"])

        assert not is_on()
        with browser.page(1300, 1150) as page:
            page.set_default_timeout(1000 * PATIENCE)
            deployment = site.deployment("all-subjects")["id"]
            page.goto(f"{pages_of(site)}/deployments/deployment/{deployment}")
            page.get_by_role("switch").click()
            until(is_on, "a schedule that is on")
            page.get_by_role("switch").click()
            until(lambda: not is_on(), "a schedule that is off")


def test_screenshots_of_the_documentation_show_what_there_is(
    browser: Pages, site: Site, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    state = site.ended(site.trigger("synthetic", output_dir=str(output)), 300)
    assert state["type"] == "COMPLETED", state["message"]
    screenshots = runpy.run_path(str(SCREENSHOTS))
    report = output / "report" / "index.html"
    pictures = screenshots["take"](browser.browser, site.url, report, tmp_path)
    in_documentation = {path.name for path in SCREENSHOTS.parent.glob("*.png")}
    assert {path.name for path in pictures} == in_documentation
    for path in pictures:
        shown = SCREENSHOTS.parent / path.name
        with Image.open(path) as ours, Image.open(shown) as theirs:
            assert ours.size == theirs.size, TAKE_AGAIN
            assert len(ours.convert("RGB").getcolors(1 << 24) or ()) > 100, "an empty page"
        ours, theirs = map(screenshots["words_of"], (path, shown))
        assert len(ours) > 40
        assert ours == theirs, TAKE_AGAIN
