"""The report: its numbers, its checks, its methods, and that the page needs nothing else."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from library_stages import Library, prepare
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist, squareform
from simulated_assemblies import Simulation, simulate
from surface_words import words_of_voxels

from nsd_prep.analysis.geometry import analyse
from nsd_prep.assemblies.assembly_file import read_assembly
from nsd_prep.checks.images import STIMULUS_SETS
from nsd_prep.checks.placement import INSIDE_BRAIN_MASK
from nsd_prep.checks.region_order import REGION_ORDER
from nsd_prep.checks.registry import describe
from nsd_prep.core.processes import Caller, call_here, worker_processes
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.pipeline.descriptions import tables_of_assemblies
from nsd_prep.pipeline.steps import report as stage
from nsd_prep.pipeline.steps.assemblies import Representations, assemble_region
from nsd_prep.pipeline.steps.checks import examine
from nsd_prep.pipeline.steps.report_inputs import ReportInputs
from nsd_prep.report.compose import compose_report
from nsd_prep.report.figures import clusters as cluster_figures
from nsd_prep.report.figures import noise_ceilings as voxel_figures
from nsd_prep.report.figures import rdms as figures
from nsd_prep.report.figures import sessions as session_figures
from nsd_prep.report.figures import slices
from nsd_prep.report.figures.figure import Cells, ReportFigure
from nsd_prep.report.figures.slices import Anatomy
from nsd_prep.report.figures.style import booklet
from nsd_prep.report.markdown import artifacts
from nsd_prep.report.methods import RunFacts, facts_table, methods, references
from nsd_prep.report.page import cells_json, render_page
from nsd_prep.report.record import Report, Section, Table, grouped
from nsd_prep.report.stamp import stamp_page, without_stamp
from nsd_prep.report.write import as_csv, write_report_files

SUBJECTS = ("subj01", "subj02", "subj05")
CHECKS = (
    INSIDE_BRAIN_MASK.check(True, region="V1", subject="subj01", measured=0.01, n_voxels=99),
    INSIDE_BRAIN_MASK.check(False, region="V1", subject="subj02", measured=0.9, n_voxels=99),
    STIMULUS_SETS.check(True, found="<1 & more images"),
    REGION_ORDER.check(None, correlations="V1-V2 0.1", differences="none"),
)
DESCRIBED = tuple(map(describe, CHECKS))
COUNTS = pd.DataFrame(
    {3: [30, 30, 30], 2: [0, 4, 6], 1: [6, 2, 0], 0: [0, 0, 0]},
    index=pd.Index([1, 2, 5], name="subject"),
)
SESSIONS = pd.DataFrame(
    {"subject": [1, 1, 2, 5], "session": [1, 2, 1, 3], "agreement": [0.9, 0.8, 1.0, 0.1]}
)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(seed=7)


@pytest.fixture(scope="module")
def facts() -> RunFacts:
    return RunFacts(
        dataset="synthetic-small",
        is_nsd=False,
        preparation="betas_fithrf_GLMdenoise_RR",
        trials_per_session=24,
        sessions={1: 6, 2: 6, 5: 4},
        sessions_read={1: 5, 2: 4, 5: 4},
        shared_images=36,
        images=30,
        train_images=21,
        regions={"V1": "prf-visualrois 1 2", "V2": "prf-visualrois 3 4", "IT": "streams 5"},
        voxels={"V1": 183, "V2": 183, "IT": 183},
        voxel_sessions_without_data=17,
        invalid_voxels="keep",
        seed=4711,
        train_fraction=0.7,
        versions={"nsd-prep": "0.1.0", "numpy": "2.4.6"},
    )


@pytest.fixture(scope="module")
def report(simulation: Simulation, facts: RunFacts) -> Report:
    return compose(simulation, facts, call_here)


def compose(simulation: Simulation, facts: RunFacts, draw: Caller) -> Report:
    geometry = analyse(simulation.assemblies())
    anatomies = {
        name: Anatomy(volume, VolumeSpace(volume.shape, np.diag([1.8, 1.8, 1.8, 1])))
        for name, volume in simulation.backgrounds.items()
    }
    return compose_report(
        facts,
        geometry,
        simulation.voxels,
        COUNTS,
        CHECKS,
        anatomies=anatomies,
        sessions=SESSIONS,
        draw=draw,
    )


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render_page(report)


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let figures be drawn and not rendered, which takes most of the time."""

    def empty(_: Figure, name: str, title: str, caption: str, *__: Any, **___: Any) -> ReportFigure:
        return ReportFigure(name, title, caption, 0, b"")

    for module in (cluster_figures, figures, session_figures, slices, voxel_figures):
        monkeypatch.setattr(module, "picture", empty)


class PageReader(HTMLParser):
    """Collects a page's tables, texts and references to elsewhere, and that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if not {"style", "script"} & set(self.open):
            self.text += data
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def read(page: str) -> PageReader:
    reader = PageReader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def table_with(page: str, *columns: str) -> list[dict[str, str]]:
    """Return the rows of the page's table that begins with some columns."""
    for names, *rows in read(page).tables:
        if tuple(names[: len(columns)]) == columns:
            return [dict(zip(names, row, strict=True)) for row in rows]
    raise AssertionError(columns)


def plain_rdm(simulation: Simulation, region: str, subject: str, *, reliable: bool) -> np.ndarray:
    patterns = simulation.of(region, subject, reliable=reliable).astype(np.float64)
    return pdist(patterns, metric="correlation")


def mean_agreement(rdms: list[np.ndarray]) -> float:
    return float(np.corrcoef(rdms)[np.triu_indices(len(rdms), k=1)].mean())


class TestNumbers:
    def test_of_the_regions(self, page: str, simulation: Simulation) -> None:
        rows = table_with(page, "region", "voxels")
        assert [row["region"] for row in rows] == ["V1", "V2", "IT"]
        for row in rows:
            table = simulation.tables[row["region"]]
            ceilings = table["noise_ceiling"].to_numpy()
            subjects = table["subject"].to_numpy()
            rdms = [plain_rdm(simulation, row["region"], item, reliable=False) for item in SUBJECTS]
            reliable = [
                plain_rdm(simulation, row["region"], item, reliable=True) for item in SUBJECTS
            ]
            mean = np.mean(rdms, axis=0)
            medians = [np.median(ceilings[subjects == item]) for item in SUBJECTS]
            assert row == {
                "region": row["region"],
                "voxels": str(len(ceilings)),
                "reliable voxels": str((ceilings > 30).sum()),
                "median noise ceiling": f"{np.median(ceilings):.1f}",
                "mean of subject medians": f"{np.mean(medians):.1f}",
                "RDM mean": f"{mean.mean():.3f}",
                "RDM SD": f"{mean.std():.3f}",
                "between subjects": f"{mean_agreement(rdms):.3f}",
                "between subjects reliable": f"{mean_agreement(reliable):.3f}",
                # tests/test_tables.py has the intervals.
                # Of three subjects there is no interval over subjects.
                **{name: row[name] for name in ("low images", "high images")},
            }
            assert float(row["low images"]) < mean_agreement(rdms) < float(row["high images"])

    def test_of_pairs_of_regions(self, page: str, simulation: Simulation) -> None:
        rows = table_with(page, "region a", "region b")
        pairs = [(row["region a"], row["region b"]) for row in rows]
        assert pairs == [("V1", "V2"), ("V1", "IT"), ("V2", "IT")]
        for row in rows:
            for column, reliable in (("r", False), ("r reliable", True)):
                means = [
                    np.mean(
                        [
                            plain_rdm(simulation, region, item, reliable=reliable)
                            for item in SUBJECTS
                        ],
                        axis=0,
                    )
                    for region in (row["region a"], row["region b"])
                ]
                assert row[column] == f"{np.corrcoef(means)[0, 1]:.3f}"

    def test_of_the_subjects(self, page: str, simulation: Simulation) -> None:
        rows = table_with(page, "region", "subject")
        assert len(rows) == 9
        for row in rows:
            region, subject = row["region"], row["subject"]
            table = simulation.tables[region]
            item = table[table["subject"] == subject]
            ceilings = item["noise_ceiling"].to_numpy()
            rdms = {name: plain_rdm(simulation, region, name, reliable=False) for name in SUBJECTS}
            others = [
                np.corrcoef(rdms[subject], rdms[name])[0, 1] for name in SUBJECTS if name != subject
            ]
            assert row == {
                "region": region,
                "subject": subject,
                "voxels": str(len(item)),
                "reliable voxels": str((ceilings > 30).sum()),
                "without ncsnr": str(np.isnan(item["ncsnr"].to_numpy()).sum()),
                "median noise ceiling": f"{np.median(ceilings):.1f}",
                "lower quartile": f"{np.percentile(ceilings, 25):.1f}",
                "upper quartile": f"{np.percentile(ceilings, 75):.1f}",
                "highest": f"{ceilings.max():.1f}",
                "RDM mean": f"{rdms[subject].mean():.3f}",
                "RDM SD": f"{rdms[subject].std():.3f}",
                "patterns without variance": "0",
                "with other subjects": f"{np.mean(others):.3f}",
            }

    def test_of_pairs_of_subjects_in_the_file(self, report: Report, simulation: Simulation) -> None:
        files = {name: table for item in report.sections for name, table in item.files.items()}
        for row in files["between-subjects"].itertuples():
            for found, reliable in ((row.r, False), (row.r_reliable, True)):
                pair = [
                    plain_rdm(simulation, row.region, subject, reliable=reliable)
                    for subject in (row.subject_a, row.subject_b)
                ]
                assert found == pytest.approx(np.corrcoef(pair)[0, 1], abs=1e-5)

    @pytest.mark.usefixtures("unrendered")
    def test_patterns_without_variance_are_reported(self, facts: RunFacts) -> None:
        simulation = simulate()
        subject = (simulation.tables["IT"]["subject"] == "subj02").to_numpy()
        simulation.responses["IT"][np.ix_([4, 9], np.flatnonzero(subject))] = 0.25
        geometry = analyse(simulation.assemblies())
        found = render_page(compose_report(facts, geometry, simulation.voxels, COUNTS, ()))
        assert "no variance over voxels (2 in IT, over all subjects)" in found
        rows = {
            (row["region"], row["subject"]): row for row in table_with(found, "region", "subject")
        }
        assert rows["IT", "subj02"]["patterns without variance"] == "2"


class TestChecks:
    def test_all_stand_on_the_page_with_verdict_and_meaning(self, page: str) -> None:
        reader = read(page)
        rows = [
            dict(zip(table[0], row, strict=True))
            for table in reader.tables
            if table[0][0] == "verdict"
            for row in table[1:]
        ]
        columns = ("region", "subject", "found", "expected")
        shown = [
            (row["verdict"].lstrip("✓✗?! "), *(row.get(column, "") for column in columns))
            for row in rows
        ]
        assert sorted(shown) == [
            ("failed", "V1", "subj02", "90.0% of 99 voxels outside", "at most 10%"),
            (
                "not decidable",
                "",
                "",
                "V1-V2 0.1 (differences between subjects none)",
                "V1-V2 > V2-V4 > V4-IT > V1-IT",
            ),
            ("passed", "", "", "<1 & more images", "the image of every row"),
            ("passed", "V1", "subj01", "1.0% of 99 voxels outside", "at most 10%"),
        ]
        for one in DESCRIBED:
            assert one.meaning in reader.text
            assert one.check.name in reader.text
        for words in ("1 failed", "1 not decidable", "2 passed"):
            assert words in reader.text

    def test_problems_come_first_and_are_open(self, report: Report) -> None:
        odd = {"correlations": "V1-V2 0.2", "differences": "none"}
        doubtful = describe(REGION_ORDER.check("suspicious", **odd))
        checks = (DESCRIBED[2], DESCRIBED[3], doubtful, DESCRIBED[1])
        groups = grouped(checks)
        assert [group.name for group in groups] == [
            INSIDE_BRAIN_MASK.name,
            REGION_ORDER.name,
            STIMULUS_SETS.name,
        ]
        found = render_page(replace(report, checks=checks))
        assert re.findall(r'<details class="check ([a-z-]+)"( open)?>', found) == [
            ("failed", " open"),
            ("suspicious", " open"),
            ("passed", ""),
        ]
        text = read(found).text
        top = text[: text.index("What was run")]
        failed, suspicious = "Found 90.0% of 99 voxels outside; expected", "Found V1-V2 0.2 (diff"
        assert top.index(f"✗ {INSIDE_BRAIN_MASK.name}") < top.index(failed)
        assert top.index(failed) < top.index(f"! {REGION_ORDER.name}") < top.index(suspicious)
        assert STIMULUS_SETS.name not in top
        assert "V1-V2 0.1" not in top

    def test_without_problems_the_page_begins_with_the_contents(self, report: Report) -> None:
        found = render_page(replace(report, checks=DESCRIBED[2:]))
        assert 'id="problems"' not in found

    def test_of_one_name_stand_together_and_say_what_tells_them_apart(self, report: Report) -> None:
        elsewhere = replace(CHECKS[0], region="", subject="subj02", data="single trials")
        other = replace(describe(elsewhere), meaning="Something else.")
        groups = grouped([*DESCRIBED[:2], other])
        assert len(groups) == 1
        columns = ["verdict", "region", "subject", "found", "expected", "meaning"]
        assert groups[0].columns() == columns
        last = groups[0].rows()[-1]
        assert (last["region"], last["subject"]) == ("single trials", "subj02")
        found = render_page(replace(report, checks=(*DESCRIBED[:2], other)))
        rows = table_with(found, *columns)
        assert [row["meaning"] for row in rows][1:] == [DESCRIBED[1].meaning, "Something else."]

    def test_one_subject_and_no_region_have_no_column_of_regions(self) -> None:
        group = grouped([describe(replace(CHECKS[0], region="", subject="subj03"))])[0]
        assert group.columns() == ["verdict", "subject", "found", "expected"]


@pytest.mark.usefixtures("unrendered")
def test_a_report_of_surfaces_speaks_of_vertices(simulation: Simulation, facts: RunFacts) -> None:
    on_surface = replace(facts, space="fsaverage", surface_files="native")
    unplaced = replace(simulation, backgrounds={})
    report = compose(unplaced, on_surface, call_here)
    assert re.search(r": [\d,]+ vertices, ", report.summary)
    said = [report.summary, *report.methods, *report.facts, *report.facts.values()]
    for section in report.sections:
        said += [section.title, section.text, *(table.caption for table in section.tables)]
        said += [name for table in section.tables for name in table.frame.columns]
        said += [text for picture in section.pictures for text in (picture.title, picture.caption)]
    assert not words_of_voxels(said)


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        ((3,), "in subject 3; this subject is not included in analyses of that region."),
        (
            (2, 3),
            "in subjects 2 and 3; these subjects are not included in analyses of that region.",
        ),
    ],
)
def test_who_lacks_a_region_is_said(facts: RunFacts, subjects: tuple[int, ...], said: str) -> None:
    lacking = replace(facts, subjects_without={"FFA": subjects})
    assert methods(lacking)[0].endswith(f" FFA was not found {said}")


class TestFactsOfOneSubject:
    """Where all of one subject's sessions were read, nothing is said of others."""

    def test_numbers_have_their_nouns(self, facts: RunFacts) -> None:
        one = replace(facts, sessions={1: 6}, sessions_read={1: 6})
        assert facts_table(one)["Sessions"] == "6 read of 6"
        assert "seen three times by the subject" in facts_table(one)["Images"]
        assert "that the subject saw three times" in methods(one)[1]

    def test_no_agreement_is_described_where_nothing_is_compared(self, facts: RunFacts) -> None:
        alone = replace(facts, sessions={1: 6}, sessions_read={1: 6}, regions={"V1": "labels"})
        assert "Agreement" not in methods(alone)[3]
        assert "95%" not in methods(alone)[3]
        cited = " ".join(references(alone))
        assert "Nili" not in cited
        assert "Efron" not in cited
        several = replace(alone, sessions=facts.sessions, sessions_read=facts.sessions_read)
        assert "Agreement between subjects is Pearson r" in methods(several)[3]
        assert "between regions" not in methods(several)[3]
        assert len(references(facts)) == len(references(several)) == 4
        assert facts_table(facts)["Sessions"].endswith("; the others hold no trial that is used")


class TestPage:
    def test_needs_nothing_else(self, page: str) -> None:
        reader = read(page)
        ids = {f"#{name}" for name in reader.ids}
        assert len(ids) == len(reader.ids)
        beside = re.compile(
            r"(figures/[a-z0-9-]+\.png|figures\.pdf#page=\d+|tables/[a-z0-9-]+\.csv)$"
        )
        for link in reader.links:
            assert link in ids or link.startswith("data:image/png;base64,") or beside.match(link)
        assert not reader.tags & {"link", "iframe", "object", "embed"}
        assert "<script src" not in page
        assert not any(word in page for word in ("fetch(", "XMLHttpRequest", "import("))
        assert "url(" not in page
        assert "@import" not in page
        assert len(page) < 15e6

    def test_shows_every_picture_with_its_caption(self, page: str, report: Report) -> None:
        pictures = [picture for item in report.sections for picture in item.pictures]
        assert [item.name for item in pictures] == [
            "mean-rdms",
            "clusters-v1",
            "clusters-v2",
            "clusters-it",
            "subject-rdms",
            "between-regions",
            "between-subjects",
            "noise-ceilings",
            "sessions",
            "voxels-v1",
            "voxels-v2",
            "voxels-it",
            "repetitions",
        ]
        assert page.count("<img ") == len(pictures)
        text = read(page).text
        assert all(item.caption in text for item in pictures)

    def test_links_to_what_lies_beside_it(self, page: str, report: Report, tmp_path: Path) -> None:
        write_report_files(tmp_path, report)
        links = [link for link in read(page).links if link[0] not in "#d"]
        assert all((tmp_path / link.split("#")[0]).is_file() for link in links)
        n_tables = sum(len(section.files) for section in report.sections)
        assert len(links) == len(report.pictures) + len(report.pages) + n_tables
        pages = [int(link.split("=")[1]) for link in links if "=" in link]
        assert pages == list(range(1, len(report.pages) + 1)) == list(report.pages.values())
        assert "voxels-v1" not in report.pages

    def test_has_the_values_of_its_matrices(self, page: str, report: Report) -> None:
        shown = [json.loads(data) for data in read(page).scripts if data.startswith("[")]
        expected = [picture.cells for picture in report.pictures if picture.cells]
        assert len(shown) == len(expected)
        for matrices, cells in zip(shown, expected, strict=True):
            for matrix, one in zip(matrices, cells, strict=True):
                assert matrix["rows"] == list(one.rows)
                assert matrix.get("columns", matrix["rows"]) == list(one.columns)
                found = np.array(matrix["values"], dtype=float)
                np.testing.assert_allclose(found, one.values, rtol=0.006)

    def test_large_matrices_take_a_byte_a_pair(self) -> None:
        generator = np.random.default_rng(3)
        pairs = generator.uniform(0.4, 1.4, 120 * 119 // 2)
        names = [f"<{number}>" for number in range(120)]
        text = cells_json([Cells(0.1, 0.2, 0.3, 0.4, names, names, squareform(pairs))])
        assert "<" not in text
        (matrix,) = json.loads(text)
        assert matrix["rows"] == names
        steps = np.frombuffer(base64.b64decode(matrix["bytes"]), dtype=np.uint8)
        found = matrix["low"] + steps / 255 * (matrix["high"] - matrix["low"])
        np.testing.assert_allclose(found, pairs, atol=0.0025)
        assert len(text) < 12_000

    def test_is_stamped_apart_from_its_digest(self, report: Report, tmp_path: Path) -> None:
        page = write_report_files(tmp_path, report)[-1]
        plain = page.read_bytes()
        for day in ("2026-03-01", "2026-03-02"):
            stamp_page(page, {"Run": "eight <subjects>", "Written": day})
            text = page.read_text(encoding="utf-8")
            assert read(text).text.rstrip().endswith(f"Runeight <subjects>Written{day}")
            assert without_stamp(page.read_bytes()) == plain
        assert "2026-03-01" not in text

    def test_is_the_same_for_the_same_report(self, page: str, report: Report) -> None:
        assert render_page(report) == page

    def test_has_a_place_for_other_analyses(self, report: Report) -> None:
        picture = ReportFigure("encoding", "Encoding", "Scores of a baseline.", 300, b"png")
        table = pd.DataFrame({"model": ["pixels <b>"], "score": [0.1234]})
        section = Section("encoding", "Encoding baseline", "", (picture,), (Table("t", table),))
        further = replace(report, sections=(*report.sections, section))
        found = render_page(further)
        assert table_with(found, "model") == [{"model": "pixels <b>", "score": "0.123"}]
        assert "Scores of a baseline." in found
        assert "report-encoding" in artifacts(further)

    @pytest.mark.parametrize(("regions", "subjects"), [(("V1",), (1,)), (("V1", "IT"), (2,))])
    @pytest.mark.usefixtures("unrendered")
    def test_of_few_regions_and_one_subject(
        self,
        facts: RunFacts,
        regions: tuple[str, ...],
        subjects: tuple[int, ...],
    ) -> None:
        simulation = simulate(regions=regions, subjects=subjects, n_voxels=8)
        few = replace(
            facts,
            sessions=dict.fromkeys(subjects, 6),
            sessions_read=dict.fromkeys(subjects, 6),
            regions={name: facts.regions[name] for name in regions},
        )
        geometry = analyse(simulation.assemblies())
        report = compose_report(
            few,
            geometry,
            simulation.voxels,
            COUNTS.iloc[:1],
            (),
            anatomies={
                f"subj{subject:02d}": Anatomy(
                    np.ones((14, 14, 14)), VolumeSpace((14, 14, 14), np.eye(4))
                )
                for subject in subjects
            },
        )
        found = render_page(report)
        assert "Responses of 1 subject to" in found
        assert all(f"Voxels of {region}" in found for region in regions)
        assert "No checks were made" in found
        assert "over subjects" not in found
        assert "between subjects" not in found
        files = {
            name: table for section in report.sections for name, table in section.files.items()
        }
        assert all(len(table) for table in files.values())
        assert set(re.findall(r'href="tables/(.*?)\.csv"', found)) == set(files)

    def test_columns_beside_a_correlation_are_named_by_its_caption(self, page: str) -> None:
        captions = {
            caption: re.findall(r"<th [^>]*>(.*?)</th>", head)
            for caption, head in re.findall(
                r"<figcaption>([^<]*)</figcaption>.*?<thead>(.*?)</thead>", page, re.S
            )
        }
        bounded = [(text, names) for text, names in captions.items() if "low images" in names]
        assert len(bounded) == 2
        for text, names in bounded:
            ends = [name for name in names if name.split()[0] in ("low", "high")]
            assert f"({ends[0]}, {ends[1]})" in text
            first = names.index(ends[0])
            assert names[first : first + len(ends)] == ends
            assert names[first - 1] in ("r", "between subjects")


class TestMethods:
    def test_say_what_the_run_did(self, facts: RunFacts) -> None:
        text = " ".join(methods(facts))
        for part in (
            "betas_fithrf_GLMdenoise_RR",
            "subjects 1, 2 and 5",
            "4 to 6 sessions of 24 trials",
            "population standard deviation",
            "17 voxel-sessions",
            "36 images that are shared",
            "the 30 that each of these subjects saw three times",
            "21 for training and 9 for testing",
            "seed 4711",
            "ncsnr² / (ncsnr² + 1/3)",
            "prf-visualrois 1 2",
            "streams 5",
            "nsd-prep 0.1.0, numpy 2.4.6",
            "Allen et al., 2022",
        ):
            assert part in text

    def test_depend_on_the_parameters(self, facts: RunFacts) -> None:
        of_nsd = replace(facts, dataset="NSD", is_nsd=True, invalid_voxels="drop")
        assert "in the file formats of" in methods(facts)[0]
        assert methods(of_nsd)[0].startswith("We used the Natural Scenes Dataset (NSD;")
        assert "left out" in methods(of_nsd)[1]
        assert "0 to the trials" in methods(facts)[1]
        assert facts_table(facts)["Sessions"].startswith("13 read of 16")

    def test_stand_on_the_page_with_the_reference(self, page: str, facts: RunFacts) -> None:
        text = read(page).text
        assert all(paragraph in text for paragraph in methods(facts))
        assert "https://doi.org/10.1038/s41593-021-00962-x" in text


class TestMarkdown:
    def test_has_keys_that_a_server_takes(self, report: Report) -> None:
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) for key in artifacts(report))

    def test_says_what_the_page_says(self, report: Report, page: str) -> None:
        documents = artifacts(report)
        assert (
            "failed | V1 | subj02 | 90.0% of 99 voxels outside | at most 10% |"
            in documents["checks"]
        )
        for one in DESCRIBED:
            assert f" | {one.value} | {one.expectation} |" in documents["checks"]
            assert one.meaning in documents["checks"]
        assert all(paragraph in documents["report"] for paragraph in report.methods)
        for row in table_with(page, "region", "voxels"):
            assert f"| {' | '.join(row.values())} |" in documents["report-regions"]
        pictures = sum(
            document.count("](data:image/png;base64,") for document in documents.values()
        )
        assert pictures == page.count("<img ")

    def test_a_bar_in_a_cell_stays_in_it(self, report: Report) -> None:
        broken = replace(report, checks=(replace(DESCRIBED[0], value="a|b"),))
        assert "a\\|b" in artifacts(broken)["checks"]


@pytest.mark.slow
def test_figures_that_another_process_draws_are_the_same(
    simulation: Simulation, facts: RunFacts, report: Report
) -> None:
    with worker_processes() as draw:
        assert compose(simulation, facts, draw).pictures == report.pictures


class TestFiles:
    def test_are_the_page_the_figures_and_the_tables(self, report: Report, tmp_path: Path) -> None:
        folder = tmp_path / "report"
        written = write_report_files(folder, report)
        assert sorted(written) == sorted(path for path in folder.rglob("*") if path.is_file())
        assert written[-1] == folder / "index.html"
        assert written[-1].read_text(encoding="utf-8") == render_page(report)
        assert (folder / "figures.pdf").read_bytes() == booklet(report.pictures)
        for picture in report.pictures:
            assert (folder / "figures" / f"{picture.name}.png").read_bytes() == picture.png
        for section in report.sections:
            for name, frame in section.files.items():
                stored = pd.read_csv(folder / "tables" / f"{name}.csv")
                pd.testing.assert_frame_equal(stored, frame, check_dtype=False, rtol=1e-6)

    @pytest.mark.parametrize(
        ("n_columns", "further"),
        [
            (3, ["a", "b"]),
            (3, ["a", ""]),
            (3, ["a,b", 'say "a"']),
            (3, ["a", None]),
            (3, [True, False]),
            (3, [1.5, None]),
            (3, pd.array([1, None])),
            (3, pd.array([1.5, None])),
            (3, pd.Categorical(["a", "b"])),
            (150, ["a", "b"]),
            (150, ["a,b", None]),
        ],
    )
    def test_large_tables_are_written_as_pandas_writes_them(
        self, n_columns: int, further: Any
    ) -> None:
        shape = 60_000 // n_columns * 2, n_columns
        values = np.random.default_rng(0).standard_normal(shape) * 1e-5
        values[0] = [np.nan, np.inf, -0.0] * (n_columns // 3)
        frame = pd.DataFrame(values, columns=[f"c{number}" for number in range(n_columns)])
        frame = frame.astype({"c0": np.float32})
        names = pd.Series(further).repeat(len(frame) // 2).to_numpy()
        labels = pd.DataFrame({"name": names, "number": range(len(frame))})
        frame = pd.concat([labels, frame], axis="columns")
        frame = frame.rename(columns={"c2": "c" if further[0] == "a" else "c,2"})
        expected = frame.to_csv(index=False, lineterminator="\n", float_format="%.7g")
        assert as_csv(frame) == expected

    def test_mean_rdms_are_there_as_numbers(
        self, report: Report, simulation: Simulation, tmp_path: Path
    ) -> None:
        write_report_files(tmp_path, report)
        stored = pd.read_csv(tmp_path / "tables" / "mean-rdm-it.csv", index_col="stimulus_id")
        assert list(stored.index) == [f"nsd_{nsd_id:05d}" for nsd_id in simulation.nsd_ids]
        assert sorted(stored.pop("place_in_clusters")) == list(range(30))
        plain = np.mean(
            [plain_rdm(simulation, "IT", item, reliable=False) for item in SUBJECTS], axis=0
        )
        np.testing.assert_allclose(stored.to_numpy()[np.triu_indices(30, k=1)], plain, atol=1e-5)


@pytest.fixture(scope="module")
def finished(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Return a run on the synthetic dataset of the smallest scale."""
    output = tmp_path_factory.mktemp("reported") / "out"
    return prepare(tiny_nsd, output, regions=["V1", "IT"])


@pytest.fixture(scope="module")
def representations(finished: Library) -> Representations:
    """Return the RDMs of that run's assemblies, which are written."""
    _, _, prepared, _, output = finished
    made = {region: assemble_region(prepared, region, output) for region in prepared.regions}
    return Representations(made, output)


def composed(finished: Library, representations: Representations) -> Report:
    """Return the report of that run."""
    _, inputs, prepared, repeated, output = finished
    examined = examine(prepared, repeated, representations, output)
    gathered = ReportInputs(
        prepared,
        representations,
        inputs.masks,
        inputs.noise_ceilings,
        examined,
        tuple(CHECKS),
    )
    return stage.gather_report(gathered, output)


class TestRun:
    @pytest.mark.slow
    def test_is_reported_from_its_files(
        self, finished: Library, representations: Representations
    ) -> None:
        output = finished.output.path
        report = composed(finished, representations)
        page = write_report_files(output / "report", report)[-1].read_text(encoding="utf-8")
        assert page == render_page(report)
        assert not list(output.rglob("*.partial"))
        for row in table_with(page, "region", "voxels"):
            assembly = read_assembly(output / f"Allen2022.{row['region']}.nc")
            rdms = [
                pdist(assembly[:, assembly["subject"].to_numpy() == name], metric="correlation")
                for name in SUBJECTS
            ]
            assert row["voxels"] == f"{assembly.sizes['neuroid']:,}"
            assert row["between subjects"] == f"{mean_agreement(rdms):.3f}"
            assert row["RDM SD"] == f"{np.mean(rdms, axis=0).std():.3f}"
        stored = pd.read_csv(output / "report" / "tables" / "repetitions.csv")
        counts = finished.prepared.repetition_counts
        columns = ["three_times", "twice", "once", "never"]
        assert stored["subject"].tolist() == [f"subj{subject:02d}" for subject in counts.index]
        assert stored[columns].to_numpy().tolist() == counts.to_numpy().tolist()

    @pytest.mark.usefixtures("representations")
    def test_the_summary_counts_in_words(self, finished: Library) -> None:
        _, (title, table) = tables_of_assemblies(finished.run, finished.prepared)
        assert title == "Shared images seen"
        heads = ["subject", "three times", "twice", "once", "never", "sessions used"]
        assert table.columns.tolist() == heads

    @pytest.mark.slow
    @pytest.mark.usefixtures("unrendered")
    def test_reported_again_gives_the_same(
        self, finished: Library, representations: Representations
    ) -> None:
        first, again = (render_page(composed(finished, representations)) for _ in range(2))
        assert first == again
