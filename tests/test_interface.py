"""The interface for notebooks: what it gives, against plain loops over the files and the flow."""

import copy
import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import reference
import single_trials_reference as plain
import xarray as xr
from documents import ROOT, blocks, unmarked
from library_stages import prepare
from range_server import RangeServer
from small_nsd import SmallNSD

import nsd_prep
from nsd_prep import NSD, RegionDefinition, open_nsd
from nsd_prep.assemblies.assembly_file import read_assembly
from nsd_prep.core.errors import (
    ExtractionError,
    MissingFilesError,
    NSDPrepError,
    ParameterError,
    PreflightError,
)
from nsd_prep.dataset.layout import Dataset
from nsd_prep.exports.export import LIKES
from nsd_prep.pipeline.cache import in_use
from nsd_prep.pipeline.steps.assemblies import assemble_region
from nsd_prep.single_trials import brain_map
from nsd_prep.sources.folder import FolderSource

SUBJECTS = [1, 2, 5]

#: Asks for responses in a forked process, and then in this one.
FORKING = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

import nsd_prep

nsd = nsd_prep.open_nsd(sys.argv[1], cache_dir=sys.argv[2])
nsd.trials(2)


def total():
    try:
        return float(nsd.responses(1, "V1").sum())
    except RuntimeError as error:
        return error


with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
    print(pool.submit(total).result())
print(total())
"""


@pytest.fixture
def nsd(small: SmallNSD, tmp_path: Path) -> NSD:
    return open_nsd(small.root, cache_dir=tmp_path / "cache")


@pytest.fixture
def damaged(damageable: SmallNSD, tmp_path: Path) -> NSD:
    """Return a dataset that the test may change, opened."""
    return open_nsd(damageable.root, cache_dir=tmp_path / "cache")


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_voxels(*_: object) -> None:
        raise AssertionError("betas were read that are in the cache")

    monkeypatch.setattr(FolderSource, "read_voxels", read_voxels)


class TestImport:
    def test_errors_name_the_cache_and_no_output_folder(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        with pytest.raises(ParameterError, match="which is only read: give cache_dir= another"):
            open_nsd(official.root, cache_dir=official.root)
        (tmp_path / "file").write_text("")
        nsd = open_nsd(official.root, cache_dir=tmp_path / "file" / "cache")
        with pytest.raises(PreflightError) as raised:
            nsd.voxels(1, "V1")
        assert len(raised.value.problems) == 1
        assert "cache_dir= names the folder" in str(raised.value)
        (tmp_path / "export").mkdir()
        manifest = {"kind": "nsd-prep export", "like": "mindeye2"}
        (tmp_path / "export" / "manifest.json").write_text(json.dumps(manifest))
        nsd = open_nsd(official.root, cache_dir=tmp_path / "export")
        with pytest.raises(
            ParameterError, match=r"holds an export like mindeye2 .*: choose another folder"
        ):
            nsd.voxels(1, "V1")

    @pytest.mark.parametrize(
        ("subjects", "sentence"),
        [([], "No subject is chosen"), ([1, 1], "more than once|twice"), ([8], "is not open")],
    )
    def test_subjects_that_cannot_be_written_are_named(
        self, official: SmallNSD, tmp_path: Path, subjects: list[int], sentence: str
    ) -> None:
        nsd = open_nsd(official.root, subjects=[1], cache_dir=tmp_path / "cache")
        for like in LIKES:
            if like != "algonauts2023":  # whose space is another
                with pytest.raises(ParameterError, match=sentence):
                    nsd.export(like, tmp_path / "out", subjects=subjects)
        with pytest.raises(ParameterError, match=sentence):
            nsd.write_experiment("imagery", tmp_path / "out", "V1", subjects=subjects)
        assert not (tmp_path / "out").exists()

    def test_it_imports_no_library_until_a_name_is_used(self) -> None:
        heavy = "{'numpy', 'pandas', 'pydantic', 'xarray', 'prefect'}"
        code = (
            "import sys, nsd_prep; nsd_prep.__version__; "
            f"assert not {heavy} & set(sys.modules), sys.modules; "
            "assert 'open_nsd' in dir(nsd_prep); nsd_prep.open_nsd; "
            "assert 'prefect' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_all_public_names_are_there_and_no_others(self) -> None:
        for name in nsd_prep.__all__:
            assert getattr(nsd_prep, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'open_nds'"):
            _ = nsd_prep.open_nds


class TestWhatIsThere:
    def test_subjects_sessions_and_regions(self, nsd: NSD, small: SmallNSD) -> None:
        assert nsd.subjects == tuple(SUBJECTS)
        assert nsd.sessions == small.sessions
        assert {"V1", "IT", "nsdgeneral"} <= set(nsd.regions)

    def test_it_shows_itself(self, nsd: NSD, small: SmallNSD, tmp_path: Path) -> None:
        shown = repr(nsd)
        for text in (str(small.root), "small", "4 of subject 1", "V1, V2", str(tmp_path)):
            assert text in shown
        assert "parietal" in shown.split()
        assert all(len(line) < 80 or "/" in line for line in shown.splitlines())

    def test_the_cache_is_the_users_where_none_is_given(
        self, official: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert open_nsd(official.root).cache_dir == tmp_path / "nsd-prep"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert open_nsd(official.root).cache_dir == tmp_path / ".cache" / "nsd-prep"
        assert not list(tmp_path.iterdir())  # nothing is written before it is needed


class TestCopies:
    """What is opened goes to spawned workers, joblib and `copy`."""

    @pytest.mark.parametrize("used", [False, True])
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_a_copy_gives_the_same(
        self, nsd: NSD, used: bool, copied: Callable[[NSD], NSD]
    ) -> None:
        expected = nsd.responses(1, "V1") if used else None
        other = copied(nsd)
        assert (other.subjects, other.sessions) == (nsd.subjects, nsd.sessions)
        expected = nsd.responses(1, "V1") if expected is None else expected
        xr.testing.assert_identical(other.responses(1, "V1"), expected)
        xr.testing.assert_identical(other.trials(2), nsd.trials(2))

    def test_so_does_a_dataset(self, small_dataset: Dataset) -> None:
        assert pickle.loads(pickle.dumps(small_dataset)) == small_dataset

    @pytest.mark.slow
    def test_a_spawned_worker(self, official: SmallNSD, tmp_path: Path) -> None:
        nsd = open_nsd(official.root, cache_dir=tmp_path / "cache")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as workers:
            given = workers.submit(nsd.responses, 1, "V1").result()
        xr.testing.assert_identical(given, nsd.responses(1, "V1"))

    @pytest.mark.slow
    @pytest.mark.parametrize("is_remote", [False, True])
    def test_a_forked_worker(self, official: SmallNSD, tmp_path: Path, is_remote: bool) -> None:
        """As a DataLoader's on Linux: without the threads that this process reads with."""
        with RangeServer(official.root) as server:
            root = server.url if is_remote else official.root
            words = [sys.executable, "-c", FORKING, str(root), str(tmp_path / "cache")]
            ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        forked, here = ran.stdout.splitlines()
        if is_remote:
            assert "does not work in a process forked from one that has used it" in forked
        else:
            assert forked == here


class TestResponses:
    @pytest.mark.parametrize("subject", [1, 5])
    def test_values_are_those_of_plain_loops(self, nsd: NSD, small: SmallNSD, subject: int) -> None:
        responses = nsd.responses(subject, "V1")
        nsd_ids = plain.seen_three_times(small, SUBJECTS)
        assert responses["nsd_id"].to_numpy().tolist() == nsd_ids
        expected = reference.responses(small, subject, "prf-visualrois", (1, 2), nsd_ids)
        assert responses.dims == ("image", "repetition", "voxel")
        assert responses.dtype == np.float32
        assert np.array_equal(responses, expected)

    def test_their_mean_is_the_assembly(self, nsd: NSD, small: SmallNSD, tmp_path: Path) -> None:
        flow = prepare(small.root, tmp_path / "flow", regions=["V1"])
        assemble_region(flow.prepared, "V1", flow.output)
        assembly = read_assembly(tmp_path / "flow" / "Allen2022.V1.nc")
        for subject in SUBJECTS:
            rows = assembly[:, (assembly["subject"] == f"subj{subject:02d}").to_numpy()]
            mean = nsd.responses(subject, "V1").mean("repetition")
            assert np.array_equal(mean, rows)
            assert np.array_equal(mean["nsd_id"], rows["nsd_id"])
            assert np.array_equal(mean["neuroid_id"], rows["neuroid_id"])
            assert np.array_equal(mean["noise_ceiling"], rows["nc_testset"])
        assert mean["is_train"].to_numpy().tolist() == flow.prepared.is_train.tolist()

    def test_images_and_trials_are_found_by_their_labels(self, nsd: NSD, small: SmallNSD) -> None:
        nsd_ids = plain.seen_three_times(small, SUBJECTS)
        responses = nsd.responses(1, "V1").sel(nsd_id=nsd_ids[2], repetition=1)
        (shown,) = (
            row
            for row in plain.trials(small, 1)
            if row["nsd_id"] == nsd_ids[2] and row["repetition"] == 1
        )
        assert responses["session"] == shown["session"]
        assert responses["trial_in_session"] == shown["trial_in_session"]

    def test_images_are_those_that_the_opened_subjects_saw(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        alone = open_nsd(official.root, subjects=[1], cache_dir=tmp_path)
        nsd_ids = plain.seen_three_times(official, [1])
        assert alone.responses(1, "V1")["nsd_id"].to_numpy().tolist() == nsd_ids
        assert nsd_ids != plain.seen_three_times(official, SUBJECTS)

    def test_files_of_other_subjects_are_not_needed(
        self, damaged: NSD, damageable: SmallNSD
    ) -> None:
        for subject in (1, 5):
            damageable.ncsnr_path(subject).unlink()
            damageable.roi_path(subject, "prf-visualrois").unlink()
            damageable.betas_path(subject, 1).unlink()
        nsd_ids = plain.seen_three_times(damageable, SUBJECTS)
        assert damaged.responses(2, "V1")["nsd_id"].to_numpy().tolist() == nsd_ids

    def test_they_are_read_once_for_a_notebook_and_the_flow(
        self, nsd: NSD, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "cache").mkdir()
        with in_use(tmp_path / "cache"):
            prepare(small.root, tmp_path / "flow", regions=["V1"], cache_dir=tmp_path / "cache")
        forbid_reading(monkeypatch)
        first = nsd.responses(1, "V1")
        xr.testing.assert_identical(first, nsd.responses(1, "V1"))

    def test_what_is_altered_in_the_cache_is_extracted_again(
        self, nsd: NSD, tmp_path: Path
    ) -> None:
        first = nsd.responses(1, "V1")
        for path in (tmp_path / "cache" / "responses").rglob("*.npy"):
            path.write_bytes(path.read_bytes()[:-8] + bytes(8))
        xr.testing.assert_identical(first, nsd.responses(1, "V1"))

    def test_they_come_from_a_web_server_too(self, official: SmallNSD, tmp_path: Path) -> None:
        local = open_nsd(official.root, cache_dir=tmp_path / "local").responses(1, "V1")
        with RangeServer(official.root) as server:
            remote = open_nsd(server.url, cache_dir=tmp_path / "remote")
            xr.testing.assert_identical(remote.responses(1, "V1"), local)
            remote.close()


class TestVoxels:
    @pytest.mark.parametrize("subject", [1, 5])
    def test_they_are_those_of_plain_loops(self, nsd: NSD, small: SmallNSD, subject: int) -> None:
        voxels = nsd.voxels(subject, list(plain.REGIONS))
        expected = plain.voxels(small, subject)
        nifti = np.stack([voxels[f"nifti_{axis}"] for axis in "ijk"], axis=1)
        assert nifti.tolist() == [list(row["ijk"]) for row in expected]
        reverse = np.stack([voxels[f"voxel_{axis}"] for axis in "zyx"], axis=1)
        assert np.array_equal(reverse, nifti)
        ncsnr = np.float32([row["ncsnr"] for row in expected])
        assert np.array_equal(voxels["ncsnr"], ncsnr, equal_nan=True)
        for name in plain.REGIONS:
            assert voxels[f"in_{name}"].to_numpy().tolist() == [row["in"][name] for row in expected]

    def test_they_need_no_betas(self, damaged: NSD, damageable: SmallNSD) -> None:
        expected = damaged.voxels(1, "V1")
        for session in range(1, 5):
            damageable.betas_path(1, session).unlink()
        xr.testing.assert_identical(damaged.voxels(1, "V1"), expected)

    def test_they_go_back_into_the_volume(self, nsd: NSD, small: SmallNSD) -> None:
        voxels = nsd.voxels(1, "V1")
        affine = np.reshape(voxels.attrs["affine"], (4, 4))
        volume = brain_map(voxels["ncsnr"], voxels, voxels.attrs["grid"], affine)
        stored = nibabel.load(small.ncsnr_path(1))
        in_v1 = np.isin(small.labels[1, "prf-visualrois"], (1, 2))
        assert np.array_equal(
            np.asarray(volume.dataobj)[in_v1], small.ncsnr[1][in_v1], equal_nan=True
        )
        assert np.array_equal(volume.affine, stored.affine)

    @pytest.mark.parametrize("n_averaged", [1, 3])
    def test_noise_ceilings_follow_from_ncsnr(
        self, nsd: NSD, small: SmallNSD, n_averaged: int
    ) -> None:
        ceilings = nsd.noise_ceilings(1, "V1", n_averaged)
        for ceiling in ceilings:
            i, j, k = (int(ceiling[f"nifti_{axis}"]) for axis in "ijk")
            ncsnr = float(small.ncsnr[1][i, j, k])
            noise = 1 / n_averaged
            expected = 0 if np.isnan(ncsnr) else 100 * ncsnr**2 / (ncsnr**2 + noise)
            assert ceiling == pytest.approx(expected, rel=1e-12)
        assert (ceilings == 0).any()


class TestClosing:
    def test_a_dataset_is_closed_by_the_end_of_a_block(
        self, nsd: NSD, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[FolderSource] = []
        monkeypatch.setattr(FolderSource, "close", lambda source: closed.append(source))
        with nsd as opened:
            assert opened is nsd
            assert closed == []
        assert len(closed) == 1


class TestTrials:
    @pytest.mark.parametrize("subject", [1, 5])
    def test_they_are_those_of_plain_loops(self, nsd: NSD, small: SmallNSD, subject: int) -> None:
        trials = nsd.trials(subject)
        expected = plain.trials(small, subject)
        for column in expected[0]:
            assert trials[column].to_numpy().tolist() == [row[column] for row in expected]

    @pytest.mark.parametrize("normalise", ["session", "none"])
    def test_single_trials_are_those_of_plain_loops(
        self, nsd: NSD, small: SmallNSD, normalise: str
    ) -> None:
        with nsd.single_trials(1, list(plain.REGIONS), normalise=normalise) as trials:
            expected = plain.responses(small, 1, normalise)
            assert np.array_equal(trials["response"], expected)
            assert np.array_equal(trials["nsd_id"], nsd.trials(1)["nsd_id"])
            voxels = nsd.voxels(1, list(plain.REGIONS))
            assert np.array_equal(trials["nifti_k"], voxels["nifti_k"])

    def test_single_trials_can_be_averaged(self, nsd: NSD) -> None:
        responses = nsd.responses(1, "V1")
        with nsd.single_trials(1, "V1", average=True, images="shared") as images:
            rows = images["response"].set_xindex("nsd_id").sel(nsd_id=responses["nsd_id"])
            assert np.array_equal(rows, responses.mean("repetition"))

    def test_they_are_written_once_and_read_where_asked_for(
        self, nsd: NSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with nsd.single_trials(1, "V1") as first:
            expected = first.load()
        (file,) = (tmp_path / "cache").rglob("subj01.nc")
        written = file.stat().st_mtime_ns
        forbid_reading(monkeypatch)
        with nsd.single_trials(np.int64(1), "V1") as second:
            assert not second["response"].variable._in_memory
            xr.testing.assert_identical(second.load(), expected)
        assert file.stat().st_mtime_ns == written
        file.write_bytes(file.read_bytes()[:-4] + bytes(4))
        with nsd.single_trials(1, "V1") as third:
            xr.testing.assert_identical(third.load(), expected)

    def test_nothing_of_the_cache_outlives_it(self, nsd: NSD, tmp_path: Path) -> None:
        from nsd_prep.pipeline.cache import clear_cache

        nsd.single_trials(1, "V1").close()
        clear_cache(tmp_path / "cache")
        assert not list((tmp_path / "cache").rglob("*.n[cp]*"))


class TestDescriptions:
    def test_everything_says_what_it_is_and_quantities_their_units(self, nsd: NSD) -> None:
        regions = ["V1", "V4"]
        with (
            nsd.single_trials(1, regions) as of_trials,
            nsd.single_trials(1, regions, average=True) as of_images,
        ):
            for labelled in (
                nsd.trials(1),
                nsd.voxels(1, regions),
                nsd.noise_ceilings(1, regions),
                nsd.responses(1, "V1"),
                of_trials,
                of_images,
            ):
                named = set(labelled.coords) | set(getattr(labelled, "data_vars", ()))
                named -= {"trial", "image", "voxel"}
                for name in named:
                    assert "long_name" in labelled[name].attrs, name
            assert nsd.noise_ceilings(1, "V1").attrs["long_name"].startswith("noise ceiling of the")
            assert of_trials["noise_ceiling_1"].attrs["units"] == "percent"
            assert of_trials["ncsnr"].attrs["units"] == "1"
            assert "units" not in of_trials["shared1000"].attrs

    def test_the_split_says_whose_it_is(self, small: SmallNSD, tmp_path: Path) -> None:
        # nsd_prep divides the images that all open subjects saw three times.
        for subjects in ([1], [1, 5]):
            opened = open_nsd(small.root, subjects=subjects, cache_dir=tmp_path)
            expected = {"split_subjects": " ".join(map(str, subjects)), "seed": 42}
            with opened.single_trials(1, "V1") as of_file:
                for trials in (of_file, opened.trials(1)):
                    found = {name: trials.attrs[name] for name in expected}
                    assert found == expected
                    assert trials.attrs["train_fraction"] == 0.8


class TestOwnRegions:
    OWN = RegionDefinition(labels={"floc-faces": (2, 3)})

    def test_a_definition_is_a_region(self, nsd: NSD, small: SmallNSD) -> None:
        nsd_ids = plain.seen_three_times(small, SUBJECTS)
        expected = reference.responses(small, 1, "floc-faces", (2, 3), nsd_ids)
        responses = nsd.responses(1, self.OWN)
        assert np.array_equal(responses, expected)
        assert responses.attrs["region_definition"] == "floc-faces 2 3"

    def test_a_mapping_names_it(self, nsd: NSD) -> None:
        voxels = nsd.voxels(1, {"FFA": self.OWN})
        assert voxels["in_FFA"].all()
        both = nsd.voxels(1, ["V1", self.OWN])
        assert both["in_floc-faces-2-3"].sum() == voxels.sizes["voxel"]

    def test_a_file_holds_some(self, official: SmallNSD, tmp_path: Path) -> None:
        file = tmp_path / "own.toml"
        file.write_text("[FFA]\nlabels = { floc-faces = [2, 3] }\n")
        nsd = open_nsd(official.root, regions_file=file, cache_dir=tmp_path / "cache")
        assert nsd.regions["FFA"] == self.OWN
        xr.testing.assert_equal(nsd.voxels(1, "FFA"), nsd.voxels(1, {"FFA": self.OWN}))

    def test_a_label_that_a_subject_lacks_is_a_warning(
        self, nsd: NSD, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        lacking = RegionDefinition(labels={"floc-faces": (2, 3, 9)})
        assert nsd.voxels(1, lacking).sizes == nsd.voxels(1, self.OWN).sizes
        assert "no voxel with the label 9 of floc-faces" in caplog.text


class TestErrors:
    @pytest.mark.parametrize("root", [None, "", "  "])
    def test_no_root(self, root: str | None, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="There is no root: give the dataset's folder"):
            open_nsd(root, cache_dir=tmp_path)  # type: ignore[arg-type]

    def test_an_unknown_experiment(self, nsd: NSD, tmp_path: Path) -> None:
        sentence = r"no experiment 'imager': give one of imagery, synthetic. Did you mean imagery\?"
        with pytest.raises(ParameterError, match=sentence):
            nsd.experiment("imager", 1, "V1")  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match=sentence):
            nsd.write_experiment("imager", tmp_path, "V1")  # type: ignore[arg-type]

    def test_a_least_value_below_zero(self, nsd: NSD) -> None:
        with pytest.raises(ParameterError, match=r"The value -1.* of min_ncsnr= is not possible"):
            nsd.single_trials(1, "V1", min_ncsnr=-1)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda nsd: nsd.trials(3), "subject 3 is not open: give one of 1, 2, 5"),
            (lambda nsd: nsd.responses("1", "V1"), "subject '1' is not open"),
            (lambda nsd: nsd.responses(True, "V1"), "subject True is not open"),
            (lambda nsd: nsd.export("mindeye2", "x", subjects=1), r"a sequence, found 1: give \[1"),
            (lambda nsd: nsd.responses(1, ["V1", "IT"]), "a single region, found V1, IT"),
            (lambda nsd: nsd.noise_ceilings(1, "V1", n_averaged=0), "1 or more, found 0"),
            (lambda nsd: nsd.noise_ceilings(1, "V1", n_averaged=-1), "1 or more, found -1"),
            (lambda nsd: nsd.responses(1, "V9"), "region V9 is unknown"),
            (lambda nsd: nsd.voxels(1, []), "No region is chosen"),
            (lambda nsd: nsd.voxels(1, ["V1", "V1"]), "V1 is given more than once"),
            (
                lambda nsd: nsd.voxels(1, {"a'b": RegionDefinition(labels={"streams": (5,)})}),
                "cannot be part of a file name",
            ),
            (
                lambda nsd: nsd.voxels(1, RegionDefinition(labels={"streams": (99,)})),
                "is empty in subject 1",
            ),
            (lambda nsd: nsd.single_trials(1, "V1", normalise="all"), "'all' of normalise="),
            (lambda nsd: nsd.single_trials(1, "V1", split="mine"), "'mine' of split="),
        ],
    )
    def test_what_is_not_possible_is_said(self, nsd: NSD, call: object, message: str) -> None:
        with pytest.raises(NSDPrepError, match=message):
            call(nsd)

    def test_what_is_not_there_is_said(self, official: SmallNSD, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError, match="is not a folder"):
            open_nsd(tmp_path / "nowhere")
        with pytest.raises(ParameterError, match="Subjects are a sequence, found 1"):
            open_nsd(official.root, subjects=1)
        with pytest.raises(ParameterError, match="'~nosuch/nsd' cannot be used"):
            open_nsd("~nosuch/nsd")
        with pytest.raises(ParameterError, match="preparation b9 is unknown"):
            open_nsd(official.root, preparation="b9")
        with pytest.raises(ParameterError, match="Subject 4 is not in the dataset"):
            open_nsd(official.root, subjects=[4])

    def test_all_problems_are_reported_together(self, damaged: NSD, damageable: SmallNSD) -> None:
        damageable.ncsnr_path(1).unlink()
        damageable.betas_path(1, 2).unlink()
        with pytest.raises(PreflightError) as caught:
            damaged.responses(1, "V1")
        assert "ncsnr.nii.gz" in str(caught.value)
        assert "betas_session02.hdf5" in str(caught.value)

    def test_a_session_that_fails_leaves_the_others_in_the_cache(
        self, nsd: NSD, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = FolderSource.read_voxels

        def failing(source: FolderSource, path: Path, *arguments: object) -> object:
            if path.name in ("betas_session01.hdf5", "betas_session03.hdf5"):
                raise OSError(5, "Input/output error", str(path))
            return read(source, path, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(FolderSource, "read_voxels", failing)
            with pytest.raises(ExtractionError) as caught:
                nsd.responses(1, "V1")
        assert [problem[:20] for problem in caught.value.problems] == [
            "subject 1, session 1",
            "subject 1, session 3",
        ]
        assert nsd.responses(1, "V1").notnull().all()


@pytest.mark.slow
def test_the_documents_examples_run_without_prefect(tiny_nsd: Path, tmp_path: Path) -> None:
    document = ROOT / "docs" / "python.md"
    assert unmarked(document) == []
    (tmp_path / "synthetic-nsd").symlink_to(tiny_nsd)
    script = "".join(block.text for block in blocks(document))
    script += "import sys\nassert 'prefect' not in sys.modules\n"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache" / "nsd-prep").is_dir()
    assert nibabel.load(tmp_path / "noise-ceilings.nii.gz").ndim == 3


@pytest.mark.parametrize("text", ["python", "pyarrow"])
def test_everything_labelled_holds_arrays_of_numpy_and_can_be_selected_from(
    nsd: NSD, text: str
) -> None:
    # Pandas stores text with pyarrow wherever it is installed, and xarray cannot select from that.
    if text == "pyarrow":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    with pd.option_context("mode.string_storage", text):
        labelled = [
            nsd.trials(1),
            nsd.voxels(1, ["V1", "V4"]),
            nsd.noise_ceilings(1, "V1"),
            nsd.responses(1, "V1"),
            nsd.single_trials(1, "V1"),
        ]
    for one in labelled:
        last = list(one.dims)[-1]
        some = one.isel({last: np.arange(one.sizes[last]) % 2 == 0})
        for name, variable in some.coords.items():
            assert type(variable.load().data) is np.ndarray, name
