"""What is published of NSD's noise ceilings and representational dissimilarity matrices (RDMs).

Sources: the printed statistics of the published Allen2022 assemblies (noise ceilings), and of an
analysis of them by RDMs (1 - Pearson r, mean over the eight subjects, 515 images). The RDM figures
of IT were most likely made with an older IT, nine parcels of HCP_MMP1, and have no tolerance.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nsd_prep.dataset.published import SUBJECTS, VOXEL_COUNTS

#: Regions that are published under another name: the same labels.
PUBLISHED_AS: Final[Mapping[str, str]] = MappingProxyType({"ventral": "IT"})
#: Voxels beside those of the assemblies' regions, subjects 1 to 8 (None: not published).
_FURTHER_VOXELS: Final[Mapping[str, tuple[int | None, ...]]] = MappingProxyType(
    {
        "early": (5917, 4611, 5148, 4054, 4494, 5860, 4559, 4596),
        "midparietal": (950, 822, 826, 698, 678, 932, 692, 653),
        "lateral": (7799, 6752, 8572, 7131, 7037, 9030, 6118, 8674),
        "parietal": (3548, 3355, 3885, 3346, 2838, 3374, 2459, 3390),
        "nsdgeneral": (15_724, *(None,) * 7),
    }
)
#: Voxels of all eight subjects, where those of each are not published.
VOXELS_OF_ALL: Final[Mapping[str, int]] = MappingProxyType({"IT-glasser": 35_429})
#: Voxels in an older release of the labels (2020-21), subjects 1 to 8: sound, and not published.
_OLDER_VOXELS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "V1": (1348, 1097, 1251, 871, 1115, 1130, 1148, 1081),
        "V2": (1415, 1083, 1160, 883, 1088, 1191, 958, 1040),
        "V3": (1188, 1081, 945, 800, 934, 1215, 721, 879),
        "V4": (676, 504, 422, 473, 548, 488, 374, 490),
    }
)
#: Median noise ceiling in percent, subjects 1 to 8.
MEDIAN_NOISE_CEILING: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "V1": (48.0, 49.1, 38.7, 33.7, 40.9, 38.8, 25.5, 21.5),
        "V2": (40.2, 31.0, 32.0, 31.7, 36.1, 32.0, 25.5, 20.1),
        "V4": (27.4, 42.1, 26.1, 21.2, 30.3, 23.8, 20.5, 19.4),
        "IT": (8.9, 11.0, 7.5, 8.6, 11.3, 8.6, 6.0, 4.7),
        "IT-glasser": (10.6, 15.1, 10.3, 10.4, 12.6, 8.4, 8.9, 5.0),
        "nsdgeneral": (28.1, 28.1, 24.0, 20.8, 34.1, 26.1, 19.1, 13.3),
    }
)
#: Median noise ceiling in percent over all subjects' voxels pooled.
POOLED_MEDIAN_NOISE_CEILING: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 37.4, "V2": 31.2, "V4": 25.3, "IT": 7.8, "IT-glasser": 9.7}
)
#: Subjects who saw all the shared images three times, and the same over their voxels.
FOUR_SUBJECTS: Final = (1, 2, 5, 7)
POOLED_MEDIAN_NOISE_CEILING_OF_FOUR: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 40.7, "V2": 33.4, "V4": 29.0, "IT": 9.1}
)
#: Highest noise ceiling in percent.
HIGHEST_NOISE_CEILING: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 83.0, "V2": 81.6, "V4": 77.3}
)
#: Medians and highest values are printed with one decimal; as for the mean of the medians.
NOISE_CEILING_TOLERANCE: Final = 0.5
#: Voxels whose noise ceiling lies above 30 %.
RELIABLE_VOXELS: Final[Mapping[str, int]] = MappingProxyType(
    {"V1": 5402, "V2": 4584, "V4": 1660, "IT": 11_744, "IT-glasser": 6805}
)
#: Relative: a count does not move unless the ncsnr or the mask does.
RELIABLE_VOXELS_TOLERANCE: Final = 0.001

#: Of the published assemblies on fsaverage: pooled median noise ceiling in percent of all eight
#: subjects, and of those who saw all the shared images three times.
SURFACE_MEDIAN_NOISE_CEILING: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 34.5, "V2": 35.9, "V4": 45.2, "IT": 18.6}
)
SURFACE_MEDIAN_NOISE_CEILING_OF_FOUR: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 39.1, "V2": 39.2, "V4": 51.7, "IT": 20.6}
)
#: Vertices whose noise ceiling lies above 30 %, of the same.
SURFACE_RELIABLE_VERTICES: Final[Mapping[str, int]] = MappingProxyType(
    {"V1": 18_542, "V2": 15_351, "V4": 5782, "IT": 52_451}
)
SURFACE_RELIABLE_VERTICES_OF_FOUR: Final[Mapping[str, int]] = MappingProxyType(
    {"V1": 9778, "V2": 8081, "V4": 3078, "IT": 28_714}
)
#: Means of an image at a vertex without data, of all eight subjects and 515 images.
SURFACE_CELLS_WITHOUT_DATA: Final[Mapping[str, int]] = MappingProxyType(
    {"V1": 986, "V2": 343, "V4": 0, "IT": 0}
)

#: Images of the RDMs.
RDM_IMAGES: Final = 515
#: Standard deviation of the mean RDM over its upper triangle.
RDM_DEVIATION: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 0.09, "V2": 0.09, "V4": 0.08, "IT": 0.085}
)
#: Correlation of the mean RDMs of two regions.
REGION_CORRELATION: Final[Mapping[tuple[str, str], float]] = MappingProxyType(
    {("V1", "V2"): 0.82, ("V2", "V4"): 0.66, ("V4", "IT"): 0.43, ("V1", "IT"): 0.16}
)
#: Correlation of the RDMs of two subjects, mean over pairs.
SUBJECT_CORRELATION: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 0.376, "V2": 0.361, "V4": 0.248, "IT": 0.484}
)
RDM_TOLERANCE: Final = 0.02
#: Regions whose RDM figures are shown without a verdict.
REGIONS_WITHOUT_VERDICT: Final = frozenset({"IT"})
#: The subject (1-based) whose RDMs agree least with the others'.
WEAKEST_SUBJECT: Final = 8


def voxel_count(region: str, subject: int) -> int | None:
    """Return how many voxels a region has in a subject (1-based); None where none is published."""
    counts = {**VOXEL_COUNTS, **_FURTHER_VOXELS}.get(region)
    return None if counts is None else counts[SUBJECTS.index(subject)]


def is_older_release(region: str, subject: int, n_voxels: int) -> bool:
    """Return whether a region has as many voxels in a subject as the older labels give it."""
    counts = _OLDER_VOXELS.get(region)
    return counts is not None and counts[SUBJECTS.index(subject)] == n_voxels
