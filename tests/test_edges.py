"""Data at the edge of what can be judged: a run ends well, and nothing is on the terminal."""

import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from library_stages import prepare, whole_run
from small_nsd import SmallNSD, write_design, write_small_nsd, write_volume

from nsd_prep.core.check import Check
from nsd_prep.core.errors import PreflightError


def run(small: SmallNSD, out: Path, **asked: Any) -> Sequence[Check]:
    """Make all that a run makes, without Prefect; every warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        shown = whole_run(small.root, out, **asked)
        assert shown.summary.for_terminal()
        assert "nan" not in shown.summary.as_markdown()
    return shown.checks


def with_images(small: SmallNSD, number: int, subjects: tuple[int, ...] = (1, 2, 5)) -> None:
    """Let there be only so many images that all subjects saw three times."""
    seen = []
    for position in range(len(small.sharedix)):
        times = [
            small.masterordering[: small.sessions[one] * small.trials_per_session].count(
                position + 1
            )
            for one in subjects
        ]
        seen.append(all(n == 3 for n in times))
    last = int(np.flatnonzero(np.cumsum(seen) == number)[0]) + 1
    small.table_path.unlink()
    write_design(small.design_path, small.masterordering, small.subjectim, small.sharedix[:last])


def with_one_voxel(small: SmallNSD) -> None:
    """Let nsdgeneral be one voxel, with data in every session, in each subject."""
    for subject in small.sessions:
        labels = small.labels[subject, "nsdgeneral"]
        strange = (small.dead[subject], small.invalid[subject], small.constant[subject])
        voxels = [tuple(one) for one in np.argwhere(labels == 1).tolist()]
        chosen = next(one for one in voxels if one not in strange)
        only = np.where(labels < 0, labels, 0)
        only[chosen] = 1
        write_volume(small.roi_path(subject, "nsdgeneral"), only)
        for side in ("lh.", "rh."):
            small.roi_path(subject, f"{side}nsdgeneral").unlink()


def without_signal(value: float) -> Callable[[SmallNSD], None]:
    """Return what gives every voxel one ncsnr."""

    def change(small: SmallNSD) -> None:
        for subject, ncsnr in small.ncsnr.items():
            write_volume(small.ncsnr_path(subject), np.full_like(ncsnr, value))

    return change


@pytest.fixture
def small(tmp_path: Path) -> SmallNSD:
    """Return a small dataset with images, that the test may change."""
    small = write_small_nsd(tmp_path / "nsd")
    images = small.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
    images.parent.mkdir(parents=True)
    with h5py.File(images, "w") as file:
        file["imgBrick"] = np.random.default_rng(0).integers(0, 256, (144, 32, 32, 3), np.uint8)
    return small


EDGES: dict[str, tuple[Callable[[SmallNSD], None] | None, dict[str, Any]]] = {
    "two images": (lambda small: with_images(small, 2), {"train_fraction": 0.5}),
    "three images": (lambda small: with_images(small, 3), {"train_fraction": 0.5}),
    "six images of one subject": (
        lambda small: with_images(small, 6, (1,)),
        {"train_fraction": 0.5, "subjects": [1]},
    ),
    "one subject": (None, {"subjects": [2]}),
    "one region": (None, {"regions": ["V1"]}),
    "one voxel": (with_one_voxel, {"regions": ["nsdgeneral", "IT"]}),
    "one voxel alone": (with_one_voxel, {"regions": ["nsdgeneral"], "subjects": [1]}),
    "no reliable voxel": (without_signal(0.01), {}),
    "ncsnr of 0": (without_signal(0), {}),
    "no ncsnr": (without_signal(np.nan), {}),
}


def everything_at_once(small: SmallNSD) -> None:
    """Let there be two images, one voxel and no signal."""
    with_images(small, 2, (1,))
    with_one_voxel(small)
    without_signal(0)(small)


EDGES["all at once"] = (
    everything_at_once,
    {"regions": ["nsdgeneral"], "subjects": [1], "train_fraction": 0.5},
)


#: Those of which voxels are left, where those without data in a session are dropped.
FEW_VOXELS = ("one voxel", "one voxel alone", "no reliable voxel", "all at once")
#: The edge of all edges; the others are slow.
FAST = (("all at once", "keep"),)


@pytest.mark.parametrize(
    ("edge", "invalid_voxels"),
    [
        pytest.param(*one, marks=[] if one in FAST else pytest.mark.slow)
        for one in [*product(EDGES, ["keep"]), *product(FEW_VOXELS, ["drop"])]
    ],
)
def test_a_run_ends_well(small: SmallNSD, tmp_path: Path, edge: str, invalid_voxels: str) -> None:
    change, asked = EDGES[edge]
    if change is not None:
        change(small)
    options = {"regions": ["V1", "IT"], "invalid_voxels": invalid_voxels} | asked
    checks = run(small, tmp_path / "out", **options)
    assert checks
    assert (tmp_path / "out" / "report" / "index.html").exists()


def test_one_image_is_too_few_for_train_and_test(small: SmallNSD, tmp_path: Path) -> None:
    with_images(small, 1)
    with pytest.raises(PreflightError, match="The split leaves 0 of 1 images for train"):
        prepare(small.root, tmp_path / "out", regions=["V1"])


def test_sessions_that_single_trials_alone_need_change_nothing_else(
    small: SmallNSD, tmp_path: Path
) -> None:
    with_images(small, 2)
    options = {"regions": ["V1"], "train_fraction": 0.5}
    alone = prepare(small.root, tmp_path / "alone", **options)
    beside = prepare(small.root, tmp_path / "beside", single_trials=True, **options)
    assert len(beside.inputs.betas) > len(alone.inputs.betas)
    assert beside.prepared.digest == alone.prepared.digest
    assert beside.repeated.digest == alone.repeated.digest
    for subject in beside.run.subjects:
        found = beside.prepared.repetitions(subject, "V1")
        np.testing.assert_array_equal(found, alone.prepared.repetitions(subject, "V1"))
