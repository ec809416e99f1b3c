"""What must hold of the assemblies and tables of a run: values, expectations, verdicts."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import NEUROID_COORDINATES, PRESENTATION_COORDINATES
from nsd_prep.core.check import Check, check
from nsd_prep.dataset.noise_ceiling import predicted_response_deviation
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING, REPETITIONS

#: Share of a region's voxels that may lack data or an ncsnr; above it the mask is misplaced.
LARGEST_SHARE_WITHOUT_DATA: Final = 0.1
#: Voxels from which on a region's share tells; fewer may all lie in dropout.
FEWEST_VOXELS_OF_A_MASK: Final = 200
#: Relative difference that the data's deviation may have from what the ncsnr predicts.
DEVIATION_TOLERANCE: Final = 0.1
#: Numbers below which the data's mean and deviation say nothing: their sampling error is then of
#: the size of the tolerance.
FEWEST_IMAGES: Final = 50
FEWEST_VOXELS: Final = 50
#: Largest mean of the data: session effects are removed over all trials of a session, of which the
#: shared images are a tenth, so a small mean remains (-0.02 in NSD).
LARGEST_MEAN: Final = 0.1


def check_form(
    region: str, assembly: xr.DataArray, subjects: Sequence[int], nsd_ids: NDArray[np.int64]
) -> list[Check]:
    """Check the form of a region's assembly: dims, coordinates, subjects, ids, values.

    Parameters
    ----------
    region : str
        Its name.
    assembly : DataArray, dims (presentation, neuroid)
        As it was written.
    subjects : sequence of int
        The run's subjects (1-based), in the order of the neuroids.
    nsd_ids : ndarray of int64, shape (n_images,)
        The run's images (0-based), ascending.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    coordinates = [*PRESENTATION_COORDINATES, *NEUROID_COORDINATES]
    ids = assembly["neuroid_id"].to_numpy()
    names = assembly["subject"].to_numpy()
    in_order = list(dict.fromkeys(names.tolist()))
    runs = 1 + int(np.count_nonzero(names[1:] != names[:-1]))
    ceiling = assembly["nc_testset"].to_numpy()
    values = assembly.to_numpy()
    missing = int(np.count_nonzero(~np.isfinite(values)))
    spread = np.ptp(values, axis=assembly.get_axis_num("presentation"))
    flat = names[(spread == 0) & (ceiling > RELIABLE_NOISE_CEILING)].tolist()
    flat_in = ", ".join(f"{flat.count(name)} in {name}" for name in in_order if name in flat)
    return [
        check(
            "dimensions",
            region,
            f"{', '.join(map(str, assembly.dims))} {assembly.shape}, {assembly.dtype}",
            f"presentation, neuroid ({len(nsd_ids)}, n), float32",
            assembly.dims == ("presentation", "neuroid")
            and assembly.shape[0] == len(nsd_ids)
            and assembly.dtype == np.float32
            and not assembly.indexes,
            "The consumer finds images along presentation and voxels along neuroid.",
        ),
        check(
            "coordinates",
            region,
            ", ".join(map(str, assembly.coords)),
            ", ".join(coordinates),
            list(assembly.coords) == coordinates,
            "The consumer selects by these; one more on presentation would break its averaging.",
        ),
        check(
            "images",
            region,
            f"{assembly.sizes['presentation']} images",
            f"the {len(nsd_ids)} usable images, ascending",
            np.array_equal(assembly["nsd_id"].to_numpy(), nsd_ids),
            "Rows belong to the images that every chosen subject saw three times.",
        ),
        check(
            "subjects present",
            region,
            ", ".join(in_order),
            ", ".join(f"subj{subject:02d}" for subject in subjects),
            in_order == [f"subj{subject:02d}" for subject in subjects] and runs == len(in_order),
            "Every subject stands once, its voxels together, in the order given.",
        ),
        check(
            "unique ids",
            region,
            f"{len(set(ids.tolist()))} of {len(ids)}",
            "all different",
            len(set(ids.tolist())) == len(ids),
            "Each neuroid can be told from every other.",
        ),
        check(
            "no NaN",
            region,
            f"{missing} values",
            "0 values that are not finite",
            missing == 0,
            "A single NaN would spread through a model's fit.",
        ),
        check(
            "noise ceiling in range",
            region,
            f"{ceiling.min():.4g} to {ceiling.max():.4g}",
            "0 to 100",
            bool(((ceiling >= 0) & (ceiling <= 100)).all()),
            "Noise ceilings are percentages of a voxel's variance.",
        ),
        check(
            "no reliable voxel without variance",
            region,
            f"voxels: {flat_in}" if flat else "0 voxels",
            f"0 voxels constant over images with a noise ceiling above {RELIABLE_NOISE_CEILING:g}",
            not flat,
            "One such voxel turns the region's score into NaN; in sound data there is none.",
        ),
    ]


def check_split(nsd_ids: NDArray[np.int64], split: pd.DataFrame) -> list[Check]:
    """Check that train and test share no image and leave none out.

    Parameters
    ----------
    nsd_ids : ndarray of int64, shape (n_images,)
        The run's images (0-based), ascending.
    split : DataFrame
        stimulus_id, nsd_id and split ("train" or "test"), as it was written.

    Returns
    -------
    list of Check
        One.
    """
    n_train, n_test = (int((split["split"] == side).sum()) for side in ("train", "test"))
    return [
        check(
            "split disjoint and complete",
            "",
            f"{n_train} train, {n_test} test",
            f"the {len(nsd_ids)} images in order, each in one of the two",
            np.array_equal(split["nsd_id"].to_numpy(), nsd_ids)
            and n_train + n_test == len(nsd_ids)
            and min(n_train, n_test) > 0,
            "Models are fitted on train and scored on test; an image in both would flatter them.",
        )
    ]


def check_signal(region: str, assembly: xr.DataArray, voxels: pd.DataFrame) -> list[Check]:
    """Check the size of a region's values against what the ncsnr predicts.

    Parameters
    ----------
    region : str
        Its name.
    assembly : DataArray, dims (presentation, neuroid)
        Averaged z-scores.
    voxels : DataFrame
        The region's rows of the voxel table.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    values = assembly.to_numpy()
    has_ncsnr = np.isfinite(voxels["ncsnr"].to_numpy())
    n_images = len(values)
    sums = values.sum(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->j", values, values, dtype=np.float64)
    mean = float(sums.mean() / n_images)
    mean_of_valid = sums[has_ncsnr].sum() / max(n_images * has_ncsnr.sum(), 1)
    square_of_valid = squares[has_ncsnr].sum() / max(n_images * has_ncsnr.sum(), 1)
    deviation = float(np.sqrt(square_of_valid - mean_of_valid**2))
    predicted = predicted_response_deviation(voxels["ncsnr"].to_numpy(), REPETITIONS)
    enough = values.shape[0] >= FEWEST_IMAGES and int(has_ncsnr.sum()) >= FEWEST_VOXELS
    close = abs(deviation / predicted - 1) <= DEVIATION_TOLERANCE if has_ncsnr.any() else False
    return [
        check(
            "deviation as predicted",
            region,
            deviation,
            f"{predicted:.4g} within {DEVIATION_TOLERANCE:.0%} (ncsnr's prediction)",
            close if enough else None,
            "The spread over images fits the stored ncsnr: trials are averaged as they should be."
            if close or not enough
            else "The spread over images does not fit the stored ncsnr: trials are not averaged "
            "over their repetitions, or the ncsnr is of other data.",
        ),
        check(
            "mean near 0",
            region,
            mean,
            f"within {LARGEST_MEAN:g} of 0",
            abs(mean) <= LARGEST_MEAN if enough else None,
            "z-scores within a session average to 0 over its trials.",
        ),
    ]


def check_coverage(region: str, voxels: pd.DataFrame, n_sessions: Mapping[str, int]) -> list[Check]:
    """Check, for each subject, how many of a region's voxels have data.

    Parameters
    ----------
    region : str
        Its name.
    voxels : DataFrame
        The region's rows of the voxel table, before any voxel was dropped.
    n_sessions : mapping of str to int
        How many sessions of each subject ("subj01") were read.

    Returns
    -------
    list of Check
        One for each subject. A small region may lie where there is no signal: it is suspicious.
    """
    found = []
    for subject, rows in voxels.groupby("subject", sort=False):
        without = rows["ncsnr"].isna() | (rows["sessions_without_data"] >= n_sessions[subject])
        share = float(without.mean())
        is_sure = len(rows) >= FEWEST_VOXELS_OF_A_MASK or share > 0.5
        found.append(
            check(
                "voxels with data",
                f"{region}, {subject}",
                f"{share:.1%} of {len(rows)} voxels without data in any session, or without ncsnr",
                f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}",
                share <= LARGEST_SHARE_WITHOUT_DATA or (False if is_sure else "suspicious"),
                "Nearly all voxels have data: mask and betas lie on each other."
                if share <= LARGEST_SHARE_WITHOUT_DATA
                else "Mask and betas do not lie on each other, or the region lies where nothing "
                "was measured.",
            )
        )
    return found
