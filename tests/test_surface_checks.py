"""Checks of what lies on surfaces: published numbers, and what has no meaning there."""

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from library_stages import whole_run
from small_surfaces import SIDES, mgh

from nsd_prep.checks import (
    Scope,
    check_placement_on_surface,
    check_published_gaps,
    check_published_region,
    check_transform,
)
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check
from nsd_prep.dataset.published import SESSION_COUNTS
from nsd_prep.dataset.space import SurfaceSpace
from nsd_prep.dataset.surfaces import read_vertices
from nsd_prep.synthetic import write_synthetic_nsd

B3 = "betas_fithrf_GLMdenoise_RR"
#: Left and right vertices, pooled median and number of vertices above 30 %, of all and of four.
V1 = {8: (2153, 2123, 34.5, 18_542), 4: (2153, 2123, 39.1, 9778)}


def scope_of(subjects: tuple[int, ...], preparation: str = B3) -> Scope:
    return Scope(preparation, {one: SESSION_COUNTS[one] for one in subjects}, "fsaverage")


def voxels(subjects: tuple[int, ...], median: float, n_reliable: int) -> pd.DataFrame:
    """Return V1's vertices of some subjects, with a pooled median and a number above 30 %."""
    left, right, *_ = V1[8]
    n_vertices = len(subjects) * (left + right)
    ceiling = np.where(np.arange(n_vertices) < n_reliable, median, 5.0)  # more than half of them
    return pd.DataFrame(
        {
            "subject": np.repeat([f"subj{one:02d}" for one in subjects], left + right),
            "hemisphere": np.tile(["lh"] * left + ["rh"] * right, len(subjects)),
            "noise_ceiling": ceiling,
            "ncsnr": 1.0,
        }
    )


def named(checks: list[Check], name: str) -> list[Check]:
    return [check for check in checks if check.name == name]


@pytest.mark.parametrize("subjects", [tuple(range(1, 9)), (1, 2, 5, 7)])
def test_published_numbers_of_fsaverage_pass(subjects: tuple[int, ...]) -> None:
    *_, median, n_reliable = V1[len(subjects)]
    checks = check_published_region("V1", voxels(subjects, median, n_reliable), scope_of(subjects))
    counts = named(checks, "published voxel count")
    assert [(one.data, one.measured) for one in counts[:3]] == [
        ("", 4276),
        ("lh", 2153),
        ("rh", 2123),
    ]
    assert len(counts) == 3 * len(subjects)
    assert {one.verdict for one in checks} == {"passed"}
    assert named(checks, "published pooled noise ceiling")[0].measured == median
    assert named(checks, "published reliable voxels")[0].measured == n_reliable


def test_hemispheres_of_other_sizes_fail() -> None:
    table = voxels((1,), 34.5, 100)
    table["hemisphere"] = table["hemisphere"].map({"lh": "rh", "rh": "lh"})
    checks = check_published_region("V1", table, scope_of((1,)))
    verdicts = {check.data: check.verdict for check in checks}
    assert verdicts == {"": "passed", "lh": "failed", "rh": "failed"}


def test_noise_ceilings_are_published_of_b3_alone() -> None:
    everybody = tuple(range(1, 9))
    checks = check_published_region(
        "V1", voxels(everybody, 34.5, 18_542), scope_of(everybody, "betas_fithrf")
    )
    assert {check.name for check in checks} == {"published voxel count"}


def test_cells_without_data_are_published_of_all_subjects_and_515_images() -> None:
    everybody = tuple(range(1, 9))
    for region, expected in (("V1", 986), ("V2", 343), ("V4", 0), ("IT", 0)):
        (found,) = check_published_gaps(region, expected, 515, scope_of(everybody))
        assert found.verdict == "passed"
        (found,) = check_published_gaps(region, expected + 1, 515, scope_of(everybody))
        assert found.verdict == "failed"
    assert check_published_gaps("V1", 0, 1000, scope_of((1, 2, 5, 7))) == []
    assert check_published_gaps("V1", 0, 514, scope_of(everybody)) == []


def test_nothing_is_published_of_subjects_own_surfaces() -> None:
    scope = Scope(B3, {1: 40}, "nativesurface")
    assert check_published_region("V1", voxels((1,), 34.5, 100), scope) == []


def test_much_of_a_region_without_data_is_found_and_the_rest_does_not_apply() -> None:
    ncsnr = np.full(1000, 0.5, np.float32)
    ncsnr[:100] = np.nan
    regions = {"sound": np.arange(300, 600), "gone": np.arange(0, 300)}
    sound, gone, orientation = check_placement_on_surface(1, regions, ncsnr)
    assert (sound.verdict, sound.reason) == ("not decidable", "no mesh")
    assert (gone.verdict, gone.reason) == ("failed", "no data")
    assert (orientation.verdict, orientation.reason) == ("not decidable", "surface")
    found = [describe(check).value for check in (sound, gone, orientation)]
    assert re.fullmatch(r"\d+ vertices: [\d.]+% without data, [\d.]+% without signal", found[0])
    assert re.fullmatch(r"signal [\d.]+ under the regions", found[2])
    assert not any("nan" in value or "voxel" in value for value in found)


class TestTransform:
    SPACE = SurfaceSpace((400, 300))
    NCSNR = np.random.default_rng(0).uniform(0, 1, 700).astype(np.float32)

    def verdicts(self, through: np.ndarray | None) -> list[str]:
        checks = check_transform(1, self.SPACE, self.NCSNR, through)
        assert [check.data for check in checks] == ["lh", "rh"]
        return [check.verdict for check in checks]

    def test_nearest_neighbours_have_the_same_ncsnr(self) -> None:
        through = self.NCSNR.copy()
        through[::7] = np.nan
        assert self.verdicts(through) == ["passed", "passed"]

    def test_indices_into_other_data_are_found(self) -> None:
        left, right = self.NCSNR[:400], self.NCSNR[400:]
        exchanged = np.concatenate([np.resize(right, 400), left[:300]])
        assert self.verdicts(exchanged) == ["failed", "failed"]
        off_by_one = np.concatenate([np.roll(left, 1), right])
        assert self.verdicts(off_by_one) == ["failed", "passed"]

    def test_without_the_native_ncsnr_nothing_is_decided(self) -> None:
        assert self.verdicts(None) == ["not decidable", "not decidable"]
        few = np.full(700, np.nan, np.float32)
        few[:40] = self.NCSNR[:40]
        assert self.verdicts(few) == ["not decidable", "not decidable"]


@pytest.mark.slow
@pytest.mark.parametrize("files", ["native", "mgh"])
def test_a_subject_whose_hemispheres_are_exchanged_is_found(tmp_path: Path, files: str) -> None:
    """Sizes do not tell of fsaverage's files, nor may they of transforms: the responses do."""
    root = tmp_path / "nsd"
    write_synthetic_nsd(root, scale="demo", subjects=(1, 2), surfaces=True, volumes=False)
    asked = {"space": "fsaverage", "surface_files": files, "subjects": [1, 2], "regions": ["V1"]}
    asked |= {"report": False, "brainscore": False}
    sound = whole_run(root, tmp_path / "sound", **asked).checks
    assert not [one for one in sound if one.verdict == "failed"]
    if files == "mgh":
        folder = root / "nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR"
        for left in folder.glob("lh.betas_session*.mgh"):
            right = left.with_name(left.name.replace("lh.", "rh."))
            contents = left.read_bytes(), right.read_bytes()
            right.write_bytes(contents[0])
            left.write_bytes(contents[1])
    else:
        folder = root / "nsddata/ppdata/subj01/transforms"
        indices = {side: read_vertices(folder / f"{side}.white-to-fsaverage.mgz") for side in SIDES}
        for side, other in (("lh", "rh"), ("rh", "lh")):
            # An index beyond the surface would be found before.
            n_vertices = len(read_vertices(folder / f"{side}.fsaverage-to-white.mgz"))
            index = np.minimum(indices[other], n_vertices)
            (folder / f"{side}.white-to-fsaverage.mgz").write_bytes(gzip.compress(mgh(index)))
    checks = whole_run(root, tmp_path / "exchanged", **asked).checks
    subjects = {one.subject for one in checks if one.verdict == "failed" and one.subject}
    assert subjects == {"subj01"}
