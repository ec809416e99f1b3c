"""Where a voxel lies, against plain NumPy and nibabel."""

import pickle

import nibabel
import numpy as np
import pandas as pd
import pytest
from nibabel.affines import apply_affine

from nsd_prep.core.errors import ParameterError
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.single_trials import brain_map

GRID = (5, 7, 6)  # (Z, Y, X)
AFFINE = np.array(
    [[-1.8, 0.1, 0.0, 9.5], [0.0, 1.8, 0.2, -12.0], [0.3, 0.0, 1.7, 4.0], [0.0, 0.0, 0.0, 1.0]]
)
SPACE = VolumeSpace(GRID, AFFINE)
SITES = np.sort(np.random.default_rng(0).choice(5 * 7 * 6, 40, replace=False))


def ijk(sites: np.ndarray) -> np.ndarray:
    """Return NIfTI indices (n, 3) by way of a NIfTI volume that holds each voxel's site."""
    nifti = np.arange(5 * 7 * 6).reshape(GRID).transpose(2, 1, 0)
    return np.array([np.argwhere(nifti == site)[0] for site in sites])


def test_the_sites_are_the_raveled_volume_of_the_betas() -> None:
    assert SPACE.shape == GRID
    assert SPACE.n_sites == 210
    assert SPACE.name == "func1pt8mm"
    assert np.flatnonzero(SPACE.mask(SITES).ravel()).tolist() == SITES.tolist()


def test_columns_of_a_table() -> None:
    table = SPACE.table(SITES)
    assert tuple(table) == ("voxel_x", "voxel_y", "voxel_z", "nifti_i", "nifti_j", "nifti_k")
    assert {column.dtype for column in table.values()} == {np.dtype(np.int64)}
    assert np.array_equal(np.stack([table[f"nifti_{axis}"] for axis in "ijk"], 1), ijk(SITES))
    assert np.array_equal(np.stack([table[f"voxel_{axis}"] for axis in "zyx"], 1), ijk(SITES))
    assert SPACE.coordinates == ("voxel_x", "voxel_y", "voxel_z")


def test_rows_of_a_table_are_sites_again_in_any_order() -> None:
    table = pd.DataFrame(SPACE.table(SITES)).sample(frac=1, random_state=1)
    assert np.array_equal(SPACE.sites(table), SITES[table.index])
    assert SPACE.sites(table[:0]).tolist() == []


@pytest.mark.parametrize("place", [(6, 0, 0), (0, 7, 0), (0, 0, 5), (-1, 0, 0)])
def test_a_voxel_outside_is_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(ParameterError, match=r"within \(X, Y, Z\) = \(6, 7, 5\)"):
        SPACE.sites({f"nifti_{axis}": [at] for axis, at in zip("ijk", place, strict=True)})


def test_millimetres_are_nibabels() -> None:
    np.testing.assert_allclose(SPACE.millimetres(SITES), apply_affine(AFFINE, ijk(SITES)))


@pytest.mark.parametrize("steps", [1, 2])
def test_neighbours_are_so_many_steps_along_the_axes_away(steps: int) -> None:
    sites = SITES[::13]
    everything = ijk(np.arange(210))
    distance = np.abs(everything[:, np.newaxis] - ijk(sites)).sum(axis=2).min(axis=1)
    expected = np.flatnonzero((distance > 0) & (distance <= steps))
    assert SPACE.neighbours(sites, steps).tolist() == expected.tolist()


def test_values_go_back_into_the_nifti_volume() -> None:
    values = np.random.default_rng(1).normal(size=len(SITES)).astype(np.float32)
    expected = np.full((6, 7, 5), -1, np.float32)
    expected[tuple(ijk(SITES).T)] = values
    assert np.array_equal(SPACE.volume(values, SITES, -1).transpose(), expected)
    image = brain_map(values, pd.DataFrame(SPACE.table(SITES)), GRID, AFFINE, outside=-1)
    assert image.to_bytes() == nibabel.Nifti1Image(expected, AFFINE).to_bytes()


def test_attributes_give_the_space_again() -> None:
    attributes = SPACE.attributes()
    assert attributes == {"grid": [5, 7, 6], "affine": AFFINE.ravel().tolist()}
    as_read = {name: np.array(value) for name, value in attributes.items()}  # as netCDF gives them
    assert VolumeSpace.from_attributes(as_read) == SPACE


def test_spaces_compare_by_content_and_are_pickled() -> None:
    again = pickle.loads(pickle.dumps(SPACE))
    assert again == SPACE
    assert hash(again) == hash(SPACE)
    moved = AFFINE.copy()
    moved[0, 3] += 1e-9
    others = [
        VolumeSpace(GRID, moved),
        VolumeSpace(GRID[::-1], AFFINE),
        VolumeSpace(GRID, AFFINE, "func1mm"),
        GRID,
    ]
    assert all(other != SPACE for other in others)


def test_an_affine_is_not_altered_from_outside() -> None:
    affine = AFFINE.copy()
    space = VolumeSpace(GRID, affine)
    affine[:] = 0
    assert space == SPACE
    with pytest.raises(ValueError, match="read-only"):
        space.affine[0, 0] = 1


@pytest.mark.parametrize(
    ("grid", "shift", "difference"),
    [
        (GRID, 0.0009, ""),
        (GRID, 0.5, "an affine that differs by up to 0.5 mm"),
        (GRID, np.nan, "an affine that differs by up to nan mm"),
        ((6, 7, 5), 0, "the grid (Z, Y, X) = (6, 7, 5) in place of (5, 7, 6)"),
    ],
)
def test_affines_that_were_rounded_are_the_same_space(
    grid: tuple[int, int, int], shift: float, difference: str
) -> None:
    moved = AFFINE.copy()
    moved[1, 3] += shift
    assert VolumeSpace(grid, moved).difference(SPACE) == difference
