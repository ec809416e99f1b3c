"""Checks of where regions lie: in the brain, and left on the left."""

import numpy as np
import pytest

from nsd_prep.checks import (
    check_hemispheres,
    check_placement,
)
from nsd_prep.checks.registry import describe
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.space import VolumeSpace


def space_of(volume: np.ndarray) -> VolumeSpace:
    return VolumeSpace(volume.shape, np.eye(4))


class TestPlacement:
    def volume(self) -> tuple[np.ndarray, np.ndarray]:
        """An ncsnr volume with a strong corner, and the voxels of that corner."""
        generator = np.random.default_rng(0)
        ncsnr = np.full((12, 14, 16), np.nan, dtype=np.float32)
        ncsnr[2:10, 2:12, 2:14] = np.maximum(0, generator.normal(0, 0.1, (8, 10, 12)))
        corner = np.zeros(ncsnr.shape, dtype=bool)
        corner[2:5, 2:6, 3:7] = True
        ncsnr[corner] = generator.uniform(0.3, 1, corner.sum())
        return ncsnr, np.flatnonzero(corner)

    def verdicts(self, ncsnr: np.ndarray, voxels: np.ndarray, **more: np.ndarray) -> dict[str, str]:
        checks = check_placement(1, {"V1": voxels}, space_of(ncsnr), ncsnr, **more)
        return {check.name: check.verdict for check in checks}

    def test_a_region_on_its_signal_passes(self) -> None:
        ncsnr, voxels = self.volume()
        found = self.verdicts(ncsnr, voxels, brain=np.isfinite(ncsnr))
        assert found == dict.fromkeys(found, "passed")
        assert len(found) == 3

    @pytest.mark.parametrize("axes", [0, 1, 2, (0, 1), (0, 1, 2)])
    def test_a_flipped_region_fails_and_the_flip_is_named(self, axes: int | tuple) -> None:
        ncsnr, voxels = self.volume()
        checks = check_placement(1, {"V1": voxels}, space_of(ncsnr), np.flip(ncsnr, axes))
        orientation = next(check for check in checks if check.name == "orientation of the masks")
        assert orientation.verdict == "failed"
        for axis, name in enumerate("zyx"):
            assert (f"{name} mirrored" in describe(orientation).value) == (
                axis in np.atleast_1d(axes)
            )

    def test_a_region_out_of_the_brain_fails(self) -> None:
        ncsnr, _ = self.volume()
        outside = np.zeros(ncsnr.shape, dtype=bool)
        outside[9:12, 2:6, 3:7] = True
        found = self.verdicts(ncsnr, np.flatnonzero(outside), brain=np.isfinite(ncsnr))
        assert found["mask in the brain"] == "failed"

    def test_volumes_of_another_grid_are_an_error(self) -> None:
        ncsnr, voxels = self.volume()
        with pytest.raises(InputFileError, match="the size of the volume"):
            check_placement(1, {"V1": voxels}, space_of(ncsnr[:2]), ncsnr[:2])
        with pytest.raises(InputFileError, match="The ncsnr of subj01 has the grid"):
            check_placement(1, {"V1": voxels}, space_of(ncsnr), ncsnr[:2])
        with pytest.raises(InputFileError, match="brain mask of subj01 has the grid"):
            check_placement(1, {"V1": voxels}, space_of(ncsnr), ncsnr, np.isfinite(ncsnr).T)


class TestHemispheres:
    GRID = (9, 10, 12)

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Voxels with a low and with a high NIfTI i."""
        i = np.unravel_index(np.arange(9 * 10 * 12), self.GRID)[2]
        return np.flatnonzero(i < 5), np.flatnonzero(i > 6)

    @pytest.mark.parametrize("flipped", [False, True])
    def test_the_affine_tells_left_from_right(self, flipped: bool) -> None:
        affine = np.diag([-1.8 if flipped else 1.8, 1.8, 1.8, 1])
        low, high = self.sides()
        left, right = (high, low) if flipped else (low, high)
        space = VolumeSpace(self.GRID, affine)
        assert check_hemispheres(1, space, left, right).verdict == "passed"
        exchanged = check_hemispheres(1, space, right, left)
        assert exchanged.verdict == "failed"
        assert "exchanged" in describe(exchanged).meaning

    def test_axes_in_another_order_are_followed(self) -> None:
        affine = np.array([[0, 0, 1.8, 0], [0, 1.8, 0, 0], [1.8, 0, 0, 0], [0, 0, 0, 1]])
        k = np.unravel_index(np.arange(9 * 10 * 12), self.GRID)[0]
        left, right = np.flatnonzero(k < 4), np.flatnonzero(k > 4)
        space = VolumeSpace(self.GRID, affine)
        assert check_hemispheres(1, space, left, right).verdict == "passed"

    @pytest.mark.filterwarnings("error")
    def test_labels_on_both_sides_and_too_few(self) -> None:
        everything = np.arange(9 * 10 * 12)
        space = VolumeSpace(self.GRID, np.diag([1.8, 1.8, 1.8, 1]))
        mixed = check_hemispheres(1, space, everything[::2], everything[1::2])
        assert mixed.verdict == "suspicious"
        none = check_hemispheres(1, space, everything[:0], everything)
        assert none.verdict == "not decidable"
