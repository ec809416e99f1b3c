"""A region that some subjects lack: an error, or left out for them alone."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from library_stages import planned, prepare, whole_run
from small_nsd import SmallNSD, write_small_nsd, write_volume

from nsd_prep import open_nsd
from nsd_prep.core.errors import PreflightError
from nsd_prep.pipeline.descriptions import describe_inputs
from nsd_prep.pipeline.preflight import load_inputs

#: FFA is labels 2 and 3 of floc-faces; subject 2 has neither.
LACKING = 2
REGIONS = "[FFA]\nlabels.floc-faces = [2, 3]\n[OFA]\nlabels.floc-faces = [1]\n"


def without_labels(small: SmallNSD, subject: int, labels: tuple[int, ...]) -> None:
    """Let a subject's floc-faces hold none of some labels."""
    values = small.labels[subject, "floc-faces"]
    values = np.where(np.isin(values, labels), 0, values)
    is_left = np.arange(values.shape[0])[:, None, None] < values.shape[0] / 2
    write_volume(small.roi_path(subject, "floc-faces"), values)
    write_volume(small.roi_path(subject, "lh.floc-faces"), np.where(is_left, values, -1.0))
    write_volume(small.roi_path(subject, "rh.floc-faces"), np.where(is_left, -1.0, values))


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> SmallNSD:
    """Return a dataset whose subject 2 lacks the region FFA; tests do not change it."""
    small = write_small_nsd(tmp_path_factory.mktemp("lacking") / "nsd")
    without_labels(small, LACKING, (2, 3))
    return small


@pytest.fixture(scope="module")
def own(lacking: SmallNSD) -> Path:
    """Return the file of regions."""
    path = lacking.root.parent / "regions.toml"
    path.write_text(REGIONS)
    return path


class TestInputs:
    def test_it_is_an_error_where_nothing_else_is_asked(
        self, lacking: SmallNSD, own: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(PreflightError) as raised:
            load_inputs(planned(lacking.root, tmp_path, regions=["V1"], regions_file=own))
        (problem,) = raised.value.problems
        assert "The region FFA is empty in subject 2" in problem
        assert 'missing_regions="skip"' in problem

    def test_skipped_it_is_empty_in_that_subject_alone(
        self, lacking: SmallNSD, own: Path, tmp_path: Path
    ) -> None:
        asked = {"regions": ["V1"], "regions_file": own, "missing_regions": "skip"}
        run = planned(lacking.root, tmp_path, **asked)
        inputs = load_inputs(run)
        for subject, masks in inputs.masks.items():
            expected = np.isin(lacking.labels[subject, "floc-faces"], (2, 3)).sum()
            expected = 0 if subject == LACKING else expected
            assert len(masks.selection.regions["FFA"]) == expected
        assert inputs.subjects_without == {"FFA": (LACKING,)}
        assert "Region FFA: no voxels in subject 2." in describe_inputs(run, inputs)
        shared = inputs.trials.table
        one = shared[shared["nsd_id"] == inputs.trials.nsd_ids[0]]
        of_one = replace(inputs, trials=replace(inputs.trials, table=one))
        said = describe_inputs(run, of_one)
        assert "\n1 image was seen three times by all; " in said
        assert " sessions hold it: " in said

    def test_an_open_dataset_leaves_it_out_where_that_is_asked(
        self, lacking: SmallNSD, own: Path, tmp_path: Path
    ) -> None:
        opened = {"regions_file": own, "cache_dir": tmp_path / "cache"}
        with pytest.raises(PreflightError, match='use missing_regions="skip"'):
            open_nsd(lacking.root, **opened).voxels(LACKING, ["V1", "FFA"])
        nsd = open_nsd(lacking.root, missing_regions="skip", **opened)
        for found in (nsd.voxels, nsd.single_trials):
            for subject, regions in ((1, {"in_V1", "in_FFA"}), (LACKING, {"in_V1"})):
                names = map(str, found(subject, ["V1", "FFA"]).variables)
                assert {name for name in names if name.startswith("in_")} == regions

    def test_a_region_that_no_subject_has_is_an_error(
        self, lacking: SmallNSD, own: Path, tmp_path: Path
    ) -> None:
        asked = {"regions": ["V1"], "regions_file": own, "missing_regions": "skip"}
        with pytest.raises(PreflightError, match="of the region FFA does not exist"):
            load_inputs(planned(lacking.root, tmp_path, subjects=[LACKING], **asked))

    def test_a_region_whose_name_has_another_label_in_each_subject(self, tmp_path: Path) -> None:
        small = write_small_nsd(tmp_path / "nsd")
        for subject, label in ((1, 1), (2, 2), (5, 3)):
            without_labels(small, subject, (label,))
            small.label_table_path(subject, "floc-faces").write_text(f"{label} FFA\n")
        own = tmp_path / "regions.toml"
        own.write_text('[FFA]\nlabels.floc-faces = ["FFA"]')
        asked = {"regions": ["V1"], "regions_file": own, "missing_regions": "skip"}
        with pytest.raises(PreflightError, match="The region FFA is empty: no chosen subject"):
            load_inputs(planned(small.root, tmp_path / "out", **asked))

    def test_a_subject_without_any_region_is_an_error(
        self, lacking: SmallNSD, tmp_path: Path
    ) -> None:
        own = tmp_path / "regions.toml"
        own.write_text("[FFA]\nlabels.floc-faces = [2, 3]\n")
        asked = {"regions": [], "regions_file": own, "missing_regions": "skip"}
        with pytest.raises(PreflightError, match="Subject 2 has none of the regions FFA"):
            load_inputs(planned(lacking.root, tmp_path / "out", **asked))

    def test_what_was_prepared_leaves_the_subject_out(
        self, lacking: SmallNSD, own: Path, tmp_path: Path
    ) -> None:
        asked = {"regions": ["V1"], "regions_file": own, "missing_regions": "skip"}
        prepared = prepare(lacking.root, tmp_path, **asked).prepared
        assert prepared.subjects_with("FFA") == (1, 5)
        assert prepared.subjects_without == {"FFA": (LACKING,)}


@pytest.fixture(scope="module")
def out(lacking: SmallNSD, own: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output of a run with everything, and what it showed."""
    folder = tmp_path_factory.mktemp("out") / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        shown = whole_run(
            lacking.root,
            folder,
            regions=["V1"],
            regions_file=own,
            missing_regions="skip",
            single_trials=True,
        )
    return folder, f"{shown.inputs}\n{shown.summary.as_markdown()}"


@pytest.mark.slow
class TestRun:
    def test_assemblies(self, out: tuple[Path, str]) -> None:
        subjects = {}
        for region in ("V1", "FFA", "OFA"):
            with xr.open_dataarray(out[0] / f"Allen2022.{region}.nc") as assembly:
                subjects[region] = list(dict.fromkeys(assembly["subject"].values.tolist()))
                without = assembly.attrs.get("subjects_without_region")
                assert without == (str(LACKING) if region == "FFA" else None)
        everyone = ["subj01", "subj02", "subj05"]
        assert subjects == {"V1": everyone, "FFA": ["subj01", "subj05"], "OFA": everyone}

    def test_train_and_test(self, out: tuple[Path, str]) -> None:
        files = sorted((out[0] / "brainscore").glob("*.nc"))
        assert len(files) == 2
        for file in files:
            with xr.open_dataarray(file) as assembly:
                assert assembly.attrs["subjects_without_region"] == f"FFA: {LACKING}"
                pairs = set(zip(assembly["subject"].values, assembly["region"].values, strict=True))
                assert ("subj02", "FFA") not in pairs
                assert len(pairs) == 8

    def test_single_trials(self, out: tuple[Path, str]) -> None:
        with xr.open_dataset(out[0] / "trials" / "subj02.nc") as trials:
            assert not any("FFA" in str(name) for name in (*trials.coords, *trials.data_vars))
        with xr.open_dataset(out[0] / "trials" / "subj01.nc") as trials:
            assert any("FFA" in str(name) for name in (*trials.coords, *trials.data_vars))

    def test_tables_and_checks(self, out: tuple[Path, str]) -> None:
        voxels = pd.read_csv(out[0] / "voxels.csv")
        assert set(voxels.loc[voxels["region"] == "FFA", "subject"]) == {"subj01", "subj05"}
        checks = pd.read_csv(out[0] / "checks.csv")
        assert "FFA, subj02" not in set(checks["where"])
        form = checks[checks["name"].isin(["dimensions", "subjects"])]
        assert set(form["verdict"]) == {"passed"}

    def test_it_is_reported(self, out: tuple[Path, str]) -> None:
        assert "Region FFA: no voxels in subject 2." in out[1]
        assert "| region | not in subjects |" in out[1]
        page = (out[0] / "report" / "index.html").read_text()
        assert "not found in subject 2" in page
        assert "FFA was not found in subject 2; this subject is not included in analyses" in page
        manifest = json.loads((out[0] / "manifest.json").read_text())
        assert manifest["parameters"]["missing_regions"] == "skip"
