"""Whatever input changes, a second run gives what a first one into an empty folder gives."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
import xarray as xr
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from small_nsd import SmallNSD, write_betas, write_design, write_small_nsd

from nsd_prep.core.errors import FailedChecksError, InputFileError, ParameterError
from nsd_prep.flows.nsd_flow import nsd_flow
from nsd_prep.tasks import validation

REGIONS = '[FFA]\nlabels.floc-faces = ["FFA-1", "FFA-2"]\n'


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start one temporary server for all the tests of this file."""
    storage = {PREFECT_LOCAL_STORAGE_PATH: tmp_path_factory.mktemp("results")}
    with prefect_test_harness(server_startup_timeout=120), temporary_settings(storage):
        yield


@pytest.fixture
def small(tmp_path: Path) -> SmallNSD:
    """Return a small dataset with images, that the test may change."""
    small = write_small_nsd(tmp_path / "nsd")
    images = small.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
    images.parent.mkdir(parents=True)
    with h5py.File(images, "w") as file:
        file["imgBrick"] = np.arange(144 * 48, dtype=np.uint8).reshape(144, 4, 4, 3)
    for path in small.root.rglob("*.nii.gz"):  # so that another content has the same size
        path.write_bytes(nibabel.load(path).to_bytes())
    return small


def run(small: SmallNSD, out: Path, **asked: Any) -> dict[str, str]:
    """Run the flow; return the SHA-256 of every output but the manifest."""
    regions = small.root.parent / "regions.toml"
    regions.write_text(REGIONS)
    options = {"regions": ["V1", "IT"], "regions_file": regions, "report": False}
    options |= {"single_trials": True} | asked
    # The small dataset is noise, and the checks find that.
    with contextlib.suppress(FailedChecksError):
        nsd_flow(nsd_root=small.root, output_dir=out, **options)
    return digests(out)


def digests(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every output but the manifest."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and "cache" not in path.relative_to(out).parts
        and path.name not in ("manifest.json", ".nsd-prep.lock")
    }


def design(small: SmallNSD) -> None:
    """Let the shared images have other ids, all else as it was."""
    small.table_path.unlink()
    variables = scipy.io.loadmat(small.design_path)
    shared = variables["sharedix"].ravel().astype(int)
    others = sorted(set(range(1, 145)) - set(variables["subjectim"].ravel().tolist()))
    free = [*others, *(shared + 0).tolist()]
    moved = np.sort(np.array(free[: len(shared)]))
    images = variables["subjectim"].astype(int)
    images[:, : len(shared)] = np.roll(shared, 1) if len(others) < len(shared) else moved
    new = images[0, : len(shared)].tolist()
    write_design(
        small.design_path, variables["masterordering"].ravel().tolist(), images.tolist(), new
    )


def stimulus_table(small: SmallNSD) -> None:
    table = pd.read_csv(small.table_path, index_col=0)
    small.write_table(table.assign(cocoId=table["cocoId"].to_numpy()[::-1]))


def label_volume(name: str) -> Callable[[SmallNSD], None]:
    """Return a change of the labels of subject 1: a voxel leaves its region."""

    def change(small: SmallNSD) -> None:
        label = {"prf-visualrois": 1, "streams": 5, "floc-faces": 2}[name]
        both = nibabel.Nifti1Image.from_bytes(small.roi_path(1, name).read_bytes())
        place = tuple(np.argwhere(both.get_fdata() == label)[1])
        for side in ("", "lh.", "rh."):
            path = small.roi_path(1, f"{side}{name}")
            image = nibabel.Nifti1Image.from_bytes(path.read_bytes())
            values = image.get_fdata()
            values[place] = min(values[place], 0)
            path.write_bytes(nibabel.Nifti1Image(values, image.affine).to_bytes())

    return change


def label_table(small: SmallNSD) -> None:
    for subject in small.sessions:
        path = small.label_table_path(subject, "floc-faces")
        path.write_text(path.read_text().replace("FFA-2", "FFA-X").replace("OFA", "FFA-2", 1)[:-2])


def ncsnr(small: SmallNSD) -> None:
    path = small.ncsnr_path(2)
    image = nibabel.Nifti1Image.from_bytes(path.read_bytes())
    path.write_bytes(
        nibabel.Nifti1Image(image.get_fdata(dtype=np.float32) / 2, image.affine).to_bytes()
    )


def description(small: SmallNSD) -> None:
    path = small.root / "dataset.json"
    path.write_text(path.read_text().replace('"small"', '"other"'))


def betas(small: SmallNSD) -> None:
    write_betas(small.betas_path(1, 2), -small.betas[1, 2] // 2)


def images(small: SmallNSD) -> None:
    with h5py.File(next(small.root.rglob("nsd_stimuli.hdf5")), "r+") as file:
        file["imgBrick"][...] = 255 - file["imgBrick"][...]


#: What changes, and whether size and modification time stay as they were.
CHANGES = {
    "design": (design, True),
    "stimulus table": (stimulus_table, True),
    "labels V1": (label_volume("prf-visualrois"), True),
    "labels IT": (label_volume("streams"), True),
    "labels own": (label_volume("floc-faces"), True),
    "label table": (label_table, True),
    "ncsnr": (ncsnr, True),
    "dataset.json": (description, True),
    "betas": (betas, False),
    "images": (images, False),
}


class TestChangedInputs:
    @pytest.mark.parametrize(
        "what",
        [
            pytest.param(name, marks=[] if name == "design" else pytest.mark.slow)
            for name in CHANGES
        ],
    )
    def test_the_outputs_are_those_of_a_run_into_an_empty_folder(
        self, small: SmallNSD, tmp_path: Path, what: str
    ) -> None:
        change, keeps_times = CHANGES[what]
        before = run(small, tmp_path / "out")
        times = {path: path.stat().st_mtime_ns for path in small.root.rglob("*") if path.is_file()}
        change(small)
        for path, time in times.items():
            if keeps_times and path.exists():
                os.utime(path, ns=(time, time))
        again = run(small, tmp_path / "out")
        assert again == run(small, tmp_path / "empty")
        assert again != before


class TestOwnership:
    def test_what_an_earlier_run_made_and_this_one_did_not_is_removed(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        run(small, out, regions=["V1", "V2"], regions_file=None)
        (out / "notes.txt").write_text("mine")
        (out / "brainscore" / "notes.txt").write_text("mine")
        edited = out / "Allen2022.V2.nc"
        run(small, out, regions=["V1"], regions_file=None, brainscore=False, single_trials=False)
        left = set(digests(out))
        assert not edited.exists()
        assert {"notes.txt", "brainscore/notes.txt"} <= left
        listed = json.loads((out / "manifest.json").read_text())["outputs"]
        assert set(listed) == left - {"notes.txt", "brainscore/notes.txt"}
        assert not (out / "trials").exists()

    def test_what_a_failed_run_left_is_removed_too(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        options = {"regions_file": None, "brainscore": False, "single_trials": False}

        @functools.wraps(validation.examine.fn)
        def fail(*_: Any) -> Any:
            raise InputFileError("no more")

        with monkeypatch.context() as patch:
            patch.setattr(validation.examine, "fn", fail)
            with pytest.raises(InputFileError, match="no more"):
                run(small, out, regions=["V1", "V2"], **options)
        assert (out / "Allen2022.V2.nc").exists()
        assert not (out / "manifest.json").exists()
        run(small, out, regions=["V1"], **options)
        assert not (out / "Allen2022.V2.nc").exists()

    def test_a_file_that_was_changed_since_is_left_alone(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        options = {"regions_file": None, "brainscore": False, "single_trials": False}
        run(small, out, regions=["V1", "V2"], **options)
        (out / "Allen2022.V2.nc").write_bytes(b"my own")
        run(small, out, regions=["V1"], **options)
        assert (out / "Allen2022.V2.nc").read_bytes() == b"my own"


class TestSharedCache:
    @pytest.mark.slow
    def test_refresh_leaves_what_another_run_is_about_to_read(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        options = {"cache_dir": tmp_path / "cache", "regions_file": None, "brainscore": False}
        run(small, tmp_path / "one", **options)
        arrays = {
            path: path.read_bytes() for path in (tmp_path / "cache" / "responses").rglob("*.npy")
        }
        run(small, tmp_path / "two", refresh=True, **options)
        assert arrays
        assert {path: path.read_bytes() for path in arrays} == arrays


class TestDroppedVoxels:
    def test_a_region_that_loses_all_its_voxels_is_named(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        path = small.betas_path(1, 2)
        with h5py.File(path, "r+") as file:
            file["betas"][...] = 0
        with pytest.raises(ParameterError, match=r"No voxel of the region V1 of subject 1"):
            run(
                small,
                tmp_path / "out",
                invalid_voxels="drop",
                regions=["V1"],
                regions_file=None,
                single_trials=False,
            )


class TestSingleTrials:
    def test_all_trials_are_read_once_for_assemblies_and_single_trials(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nsd_prep.dataset import betas

        out, read = tmp_path / "out", []
        read_voxels = betas.read_voxels
        monkeypatch.setattr(
            betas, "read_voxels", lambda path, *rest: read.append(path) or read_voxels(path, *rest)
        )
        options = {"regions_file": None, "brainscore": False, "subjects": [1]}
        run(small, out, single_trials=True, assemblies=False, **options)
        n_sessions = len(read)
        assert n_sessions == small.sessions[1]
        run(small, out, **options)
        assert len(read) == n_sessions

    def test_they_are_checked_and_have_a_page_of_their_own(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        options = {"regions_file": None, "brainscore": False, "subjects": [1], "regions": ["V1"]}
        run(small, out, assemblies=False, report=True, **options)
        checks = pd.read_csv(out / "checks.csv").set_index("name")
        assert {"voxels of a session with data", "mask in the brain"} <= set(checks.index)
        assert "single trials belong to their images" in checks.index
        page = (out / "report" / "index.html").read_text()
        for name in ("trials-by-session-subj01", "trial-reliability-subj01", "one-voxel-subj01"):
            assert (out / "report" / "figures" / f"{name}.png").stat().st_size > 1000
            assert name in page
        voxels = pd.read_csv(out / "subj01_voxels.csv")
        with xr.open_dataset(out / "subj01.nc") as dataset:
            responses = dataset["response"].to_numpy()
            rows = {
                (int(nsd_id), int(repetition)): row
                for row, (nsd_id, repetition) in enumerate(
                    zip(dataset["nsd_id"].values, dataset["repetition"].values, strict=True)
                )
            }
        twice = [nsd_id for nsd_id, repetition in rows if repetition == 1]
        halves = [responses[[rows[nsd_id, half] for nsd_id in twice]] for half in (0, 1)]
        for voxel in range(len(voxels)):
            one, two = (half[:, voxel].astype(np.float64) for half in halves)
            found = voxels["split_half_correlation"][voxel]
            if one.std() == 0 or two.std() == 0:
                assert np.isnan(found)
            else:
                assert np.isclose(found, np.corrcoef(one, two)[0, 1], atol=1e-6)
        before = digests(out)
        run(small, out, assemblies=False, report=True, **options)
        assert digests(out) == before

    def test_what_another_format_left_is_not_read(self, small: SmallNSD, tmp_path: Path) -> None:
        pytest.importorskip("zarr")
        options = {"regions_file": None, "assemblies": False, "subjects": [1], "format": "zarr"}
        expected = run(small, tmp_path / "empty", regions=["V1"], **options)
        run(small, tmp_path / "out", regions=["IT"], **options | {"format": "netcdf"})
        assert run(small, tmp_path / "out", regions=["V1"], **options) == expected

    def test_averages_over_shared_images_are_the_rows_of_the_assembly(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        options = {"regions": ["V1"], "regions_file": None, "subjects": [1], "brainscore": False}
        run(small, out, average=True, images="shared", **options)
        with (
            xr.open_dataset(out / "trials" / "subj01.nc") as single,
            xr.open_dataarray(out / "Allen2022.V1.nc") as assembly,
        ):
            ids = single["nsd_id"].to_numpy()
            rows = [int(np.flatnonzero(ids == nsd_id)[0]) for nsd_id in assembly["nsd_id"].values]
            np.testing.assert_array_equal(single["response"].values[rows], assembly.values)


def test_the_root_of_a_dataset_is_not_changed(small: SmallNSD, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in small.root.rglob("*") if path.is_file()}
    run(small, tmp_path / "out")
    assert {path: path.read_bytes() for path in before} == before
    assert shutil.disk_usage(tmp_path).free
