"""The table of a subject's voxels: the union of regions, each voxel once."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.coordinates import MEMBERSHIP
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.noise_ceiling import noise_ceiling, noise_ceiling_of_unequal_repetitions
from nsd_prep.dataset.published import REPETITIONS
from nsd_prep.dataset.regions import union_of_regions
from nsd_prep.dataset.space import Space

VOXEL: Final = "voxel"


def trial_voxels(
    regions: Mapping[str, NDArray[np.int64]],
    space: Space,
    ncsnr: NDArray[np.float32],
    ncsnr_of_splits: Sequence[NDArray[np.float32]] = (),
) -> pd.DataFrame:
    """Return a row for each voxel of the union of regions.

    Parameters
    ----------
    regions : mapping of str to ndarray of int64, shape (n_voxels,)
        As `nsd_prep.dataset.regions.union_of_regions` takes them.
    space : Space
        Whose sites these are.
    ncsnr : ndarray of float32, shape `space.shape`
        The subject's, as `nsd_prep.dataset.volumes.read_ncsnr` gives it.
    ncsnr_of_splits : sequence of ndarray of float32
        The same, of each of the halves of the images for which NSD gives it.

    Returns
    -------
    DataFrame
        Index ``voxel``. Columns: those of the space (`nsd_prep.dataset.space.Space`); ncsnr
        (NaN where a voxel has no data in any session), ncsnr_split1 and ncsnr_split2 where they
        are given; noise_ceiling_1 and noise_ceiling
        (percent, for one trial and for the mean of three, 0 where ncsnr is NaN); and for each
        region ``in_NAME``, bool.
    """
    union = union_of_regions(regions)
    of_voxels = ncsnr.ravel()[union]
    columns = {
        **space.table(union),
        "ncsnr": of_voxels,
        **{
            f"ncsnr_split{number}": values.ravel()[union]
            for number, values in enumerate(ncsnr_of_splits, start=1)
        },
        "noise_ceiling_1": noise_ceiling(of_voxels, n_averaged=1),
        "noise_ceiling": noise_ceiling(of_voxels, n_averaged=REPETITIONS),
    }
    members = {f"{MEMBERSHIP}{name}": np.isin(union, voxels) for name, voxels in regions.items()}
    return pd.DataFrame(columns | members).rename_axis(index=VOXEL)


def with_averaged_noise_ceiling(voxels: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Add noise_ceiling_averaged (percent), for the images' mixture of 3, 2 and 1 repetitions."""
    times = images["n_repetitions"].to_numpy()
    thrice, twice, once = (int(np.count_nonzero(times == number)) for number in (3, 2, 1))
    ceiling = noise_ceiling_of_unequal_repetitions(voxels["ncsnr"].to_numpy(), thrice, twice, once)
    with_column = voxels.copy()
    position = voxels.columns.get_loc("noise_ceiling") + 1
    with_column.insert(position, "noise_ceiling_averaged", ceiling)
    return with_column


def join_regions(parts: Mapping[str, Betas], regions: Mapping[str, NDArray[np.int64]]) -> Betas:
    """Put a session's values, kept region by region, together into the union of the regions.

    Parameters
    ----------
    parts : mapping of str to ndarray, shape (n_voxels, n_trials)
        For each region, its values.
    regions : mapping of str to ndarray of int64, shape (n_voxels,)
        For each region, its voxels, in the order of its values.

    Returns
    -------
    ndarray, shape (n_voxels_of_union, n_trials)
        Of the type of the parts, in the order of `nsd_prep.dataset.regions.union_of_regions`.
    """
    union = union_of_regions(regions)
    first = next(iter(parts.values()))
    joined = np.empty((len(union), first.shape[1]), dtype=first.dtype)
    for name, voxels in regions.items():
        joined[np.searchsorted(union, voxels)] = parts[name]
    return joined
