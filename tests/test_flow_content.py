"""Whatever input changes, a second run gives what a first one into an empty folder gives."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
from small_nsd import SmallNSD, write_betas, write_design, write_small_nsd

from nsd_prep import prepare
from nsd_prep.core.errors import FailedChecksError
from nsd_prep.flows.nsd_flow import nsd_flow

SILENT = functools.partial(prepare, progress=False)
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


def run(small: SmallNSD, out: Path, way: Callable[..., Any], **asked: Any) -> dict[str, str]:
    """Run the flow, or prepare; return the SHA-256 of every output but the manifest."""
    regions = small.root.parent / "regions.toml"
    regions.write_text(REGIONS)
    options = {"regions": ["V1", "IT"], "regions_file": regions, "report": False}
    options |= {"single_trials": True} | asked
    # The small dataset is noise, and the checks find that.
    with contextlib.suppress(FailedChecksError):
        way(nsd_root=small.root, output_dir=out, **options)
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
    @pytest.mark.slow
    def test_the_outputs_are_those_of_a_run_into_an_empty_folder(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        check_a_change(small, tmp_path, "design", SILENT)

    @pytest.mark.slow
    @pytest.mark.usefixtures("prefect_server")
    @pytest.mark.parametrize("what", CHANGES)
    def test_the_flow_s_outputs_are_too(self, small: SmallNSD, tmp_path: Path, what: str) -> None:
        check_a_change(small, tmp_path, what, nsd_flow)


def check_a_change(small: SmallNSD, folder: Path, what: str, way: Callable[..., Any]) -> None:
    """Run, change an input, and run into the same folder and into an empty one."""
    change, keeps_times = CHANGES[what]
    before = run(small, folder / "out", way)
    times = {path: path.stat().st_mtime_ns for path in small.root.rglob("*") if path.is_file()}
    change(small)
    for path, time in times.items():
        if keeps_times and path.exists():
            os.utime(path, ns=(time, time))
    # The dataset's name is an option: results of another one are only replaced when told to.
    again = run(small, folder / "out", way, replace=what == "dataset.json")
    assert again == run(small, folder / "empty", SILENT)
    assert again != before
