"""What a run owns in its output folder, and its single trials, on data that are noise."""

import contextlib
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from small_nsd import SmallNSD, write_small_nsd

import nsd_prep
from nsd_prep.core.errors import FailedChecksError, InputFileError, ParameterError
from nsd_prep.pipeline import step_table
from nsd_prep.report.stamp import without_stamp

REGIONS = '[FFA]\nlabels.floc-faces = ["FFA-1", "FFA-2"]\n'


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
    """Prepare; return the SHA-256 of every output but the manifest."""
    regions = small.root.parent / "regions.toml"
    regions.write_text(REGIONS)
    options = {"regions": ["V1", "IT"], "regions_file": regions, "report": False}
    options |= {"single_trials": True} | asked
    # The small dataset is noise, and the checks find that.
    with contextlib.suppress(FailedChecksError):
        nsd_prep.prepare(nsd_root=small.root, output_dir=out, progress=False, **options)
    return digests(out)


def digests(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every output but the manifest; of a page without its date."""
    return {
        str(path.relative_to(out)): hashlib.sha256(
            without_stamp(path.read_bytes()) if path.suffix == ".html" else path.read_bytes()
        ).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and "cache" not in path.relative_to(out).parts
        and path.name not in ("manifest.json", ".nsd-prep.lock")
    }


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

        def fail(*_: Any) -> Any:
            raise InputFileError("no more")

        with monkeypatch.context() as patch:
            patch.setattr(step_table, "EXAMINE", replace(step_table.EXAMINE, function=fail))
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
            found = voxels["first_second_correlation"][voxel]
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
