"""Tables of what the figures show."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.analysis.geometry import (
    Geometry,
    RegionGeometry,
    between_regions,
    between_subjects,
    cluster_order,
    mean_over_pairs,
)
from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.analysis.rdm_statistics import (
    correlations_without_each_image,
    jackknife_interval,
    rdm_noise_ceiling,
)
from nsd_prep.assemblies.assembly import stimulus_ids
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING

#: The name that stands for all subjects together.
ALL_SUBJECTS: Final = "all"
#: Percent; the last bin holds 100.
BIN_EDGES: Final = np.arange(0.0, 101.0, 5.0)


def region_table(geometry: Geometry, voxels: pd.DataFrame) -> pd.DataFrame:
    """Summarise each region.

    Parameters
    ----------
    geometry : Geometry
        RDMs of all regions.
    voxels : DataFrame
        A row for each neuroid, as `nsd_prep.assemblies.assembly.voxel_table` gives it.

    Returns
    -------
    DataFrame
        region; voxels; reliable_voxels; median_noise_ceiling (percent, voxels of all subjects
        pooled); mean_of_subject_medians; rdm_mean and rdm_sd of the mean RDM's upper triangle
        (population SD); between_subjects, the mean over pairs of r, with the ends of its 95 %
        interval over images (low_images, high_images) and over subjects (low_subjects,
        high_subjects; NaN of fewer than four); between_subjects_reliable, with reliable voxels.
    """
    rows = []
    for region, reliable in zip(geometry.all_voxels, geometry.reliable_voxels, strict=True):
        chosen = voxels[voxels["region"] == region.region]
        ceiling = chosen["noise_ceiling"]
        rows.append(
            {
                "region": region.region,
                "voxels": len(chosen),
                "reliable_voxels": int((ceiling > RELIABLE_NOISE_CEILING).sum()),
                "median_noise_ceiling": float(ceiling.median()),
                "mean_of_subject_medians": float(
                    chosen.groupby("subject")["noise_ceiling"].median().mean()
                ),
                "rdm_mean": float(region.mean_rdm.mean(dtype=np.float64)),
                "rdm_sd": float(region.mean_rdm.std(dtype=np.float64)),
                "between_subjects": mean_over_pairs(between_subjects(region)),
                **_interval_of_mean(region),
                "between_subjects_reliable": mean_over_pairs(between_subjects(reliable)),
            }
        )
    return pd.DataFrame(rows)


def _interval_of_mean(region: RegionGeometry) -> dict[str, float]:
    """Return the ends of the intervals of the mean r between subjects, by column."""
    correlation = between_subjects(region)
    mean = mean_over_pairs(correlation)
    without_image = [mean_over_pairs(rdms) for rdms in _without_each_image(region.rdms)]
    without_subject = [
        mean_over_pairs(np.delete(np.delete(correlation, row, axis=0), row, axis=1))
        for row in np.flatnonzero(region.has_rdm)
    ]
    low, high = jackknife_interval(mean, np.array(without_image))
    ends = jackknife_interval(mean, np.array(without_subject))
    return {
        "low_images": low,
        "high_images": high,
        "low_subjects": ends[0],
        "high_subjects": ends[1],
    }


def _without_each_image(triangles: NDArray[np.float32]) -> NDArray[np.float64]:
    return correlations_without_each_image(
        np.stack([from_upper_triangle(pairs) for pairs in triangles])
    )


def subject_table(geometry: Geometry, voxels: pd.DataFrame) -> pd.DataFrame:
    """Summarise each region of each subject, from what `region_table` takes.

    Returns
    -------
    DataFrame
        region; subject; voxels; reliable_voxels; without_ncsnr, voxels whose ncsnr is NaN;
        median_noise_ceiling, lower_quartile, upper_quartile, highest (percent); rdm_mean and
        rdm_sd of the upper triangle (population SD); patterns_without_variance, images;
        with_other_subjects, the mean of r with the RDMs of the others.
    """
    rows = []
    groups = dict(iter(voxels.groupby(["region", "subject"], sort=False)))
    for region in geometry.all_voxels:
        agreement = between_subjects(region)
        np.fill_diagonal(agreement, np.nan)
        for row, subject in enumerate(region.subjects):
            chosen = groups[region.region, subject]
            ceiling = chosen["noise_ceiling"]
            others = agreement[row][np.isfinite(agreement[row])]
            rows.append(
                {
                    "region": region.region,
                    "subject": subject,
                    "voxels": len(chosen),
                    "reliable_voxels": int((ceiling > RELIABLE_NOISE_CEILING).sum()),
                    "without_ncsnr": int(chosen["ncsnr"].isna().sum()),
                    "median_noise_ceiling": float(ceiling.median()),
                    "lower_quartile": float(ceiling.quantile(0.25)),
                    "upper_quartile": float(ceiling.quantile(0.75)),
                    "highest": float(ceiling.max()),
                    "rdm_mean": float(region.rdms[row].mean(dtype=np.float64)),
                    "rdm_sd": float(region.rdms[row].std(dtype=np.float64)),
                    "patterns_without_variance": int(region.n_without_variance[row]),
                    "with_other_subjects": float(others.mean()) if len(others) else np.nan,
                }
            )
    return pd.DataFrame(rows)


def between_regions_table(geometry: Geometry) -> pd.DataFrame:
    """List the correlations of mean RDMs between regions.

    Returns
    -------
    DataFrame
        region_a, region_b, and r with all voxels; low_images and high_images, the ends of its 95 %
        interval over images, and low_subjects and high_subjects over subjects (NaN of fewer than
        four); r_reliable, with reliable voxels, where the geometry has any; a row for each pair.
    """
    regions = geometry.all_voxels
    names = [region.region for region in regions]
    all_voxels = between_regions(regions)
    means = np.stack([region.mean_rdm for region in regions])
    upper = np.triu_indices(len(names), k=1)
    low, high = jackknife_interval(all_voxels, _without_each_image(means))
    subjects = dict.fromkeys(name for region in regions for name in region.subjects_with_rdm)
    left_out = {
        subject: between_regions([region.without(subject) for region in regions])
        for subject in subjects
    }
    over_subjects = [
        jackknife_interval(
            all_voxels[a, b],
            np.array(
                [
                    values[a, b]
                    for subject, values in left_out.items()
                    if subject in regions[a].subjects_with_rdm + regions[b].subjects_with_rdm
                ]
            ),
        )
        for a, b in zip(*upper, strict=True)
    ]
    ends = np.array(over_subjects).reshape(-1, 2)
    table = _pairs(("region_a", "region_b"), names, all_voxels, low, high)
    table = table.assign(low_subjects=ends[:, 0], high_subjects=ends[:, 1])
    if not geometry.reliable_voxels:
        return table
    return table.assign(r_reliable=between_regions(geometry.reliable_voxels)[upper])


def rdm_noise_ceiling_table(geometry: Geometry) -> pd.DataFrame:
    """List how well a perfect model of a region could agree with the subjects' RDMs.

    Returns
    -------
    DataFrame
        region, subjects (those that have an RDM), and lower_bound and upper_bound of the noise
        ceiling over subjects (Nili et al. 2014), with all voxels; NaN of fewer than two subjects.
    """
    rows = []
    for region in geometry.all_voxels:
        known = region.rdms[region.has_rdm]
        bounds = rdm_noise_ceiling(known)
        rows.append(
            {
                "region": region.region,
                "subjects": len(known),
                "lower_bound": bounds.lower,
                "upper_bound": bounds.upper,
            }
        )
    return pd.DataFrame(rows)


def between_subjects_table(geometry: Geometry) -> pd.DataFrame:
    """List the correlations of RDMs between subjects, in every region.

    Returns
    -------
    DataFrame
        region, subject_a, subject_b, and r with all voxels; low_images and high_images, the ends of
        its 95 % interval over images; r_reliable, with reliable voxels; a row for each pair.
    """
    tables = []
    reliable = {each.region: each for each in geometry.reliable_voxels}
    for region in geometry.all_voxels:
        all_voxels = between_subjects(region)
        low, high = jackknife_interval(all_voxels, _without_each_image(region.rdms))
        table = _pairs(("subject_a", "subject_b"), list(region.subjects), all_voxels, low, high)
        table.insert(0, "region", region.region)
        upper = np.triu_indices(len(region.subjects), k=1)
        of_reliable = between_subjects(reliable[region.region])[upper]
        tables.append(table.assign(r_reliable=of_reliable))
    return pd.concat(tables, ignore_index=True)


def _pairs(
    columns: tuple[str, str],
    names: list[str],
    correlation: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> pd.DataFrame:
    """List the pairs of a correlation matrix with the ends of their intervals over images."""
    first, second = np.triu_indices(len(names), k=1)
    return pd.DataFrame(
        {
            columns[0]: [names[index] for index in first],
            columns[1]: [names[index] for index in second],
            "r": correlation[first, second],
            "low_images": low[first, second],
            "high_images": high[first, second],
        }
    )


def noise_ceiling_histogram(voxels: pd.DataFrame) -> pd.DataFrame:
    """Count voxels by noise ceiling, from a table with a row for each neuroid.

    Columns region, subject (``all`` for all together), from and to (percent; `to` is not in the
    bin, but for 100), and voxels.
    """
    tables = []
    for region, chosen in voxels.groupby("region", sort=False):
        groups = {**dict(iter(chosen.groupby("subject", sort=False))), ALL_SUBJECTS: chosen}
        for subject, group in groups.items():
            counts, _ = np.histogram(group["noise_ceiling"], bins=BIN_EDGES)
            tables.append(
                pd.DataFrame(
                    {
                        "region": region,
                        "subject": subject,
                        "from": BIN_EDGES[:-1],
                        "to": BIN_EDGES[1:],
                        "voxels": counts,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def mean_rdm_table(nsd_ids: NDArray[np.int64], region: RegionGeometry) -> pd.DataFrame:
    """Return a region's mean RDM with its images (nsd_ids, 0-based).

    Returns
    -------
    DataFrame
        stimulus_id; place_in_clusters (0-based), where an image stands in the clustered order;
        then a column for each image, named by its stimulus_id.
    """
    names = stimulus_ids(nsd_ids)
    position = np.empty(len(names), dtype=np.int64)
    position[cluster_order(region.mean_rdm)] = np.arange(len(names))
    distances = pd.DataFrame(from_upper_triangle(region.mean_rdm), columns=names)
    distances.insert(0, "place_in_clusters", position)
    distances.insert(0, "stimulus_id", names)
    return distances
