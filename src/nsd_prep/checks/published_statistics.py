"""What is published of NSD's noise ceilings and representational dissimilarity matrices (RDMs).

Sources: the printed statistics of the published Allen2022 assemblies (noise ceilings), and of an
analysis of them by RDMs (1 - Pearson r, mean over the eight subjects, 515 images). The RDM figures
of IT were most likely made with an older IT, nine parcels of HCP_MMP1, and have no tolerance.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Median noise ceiling in percent, subjects 1 to 8.
MEDIAN_NOISE_CEILING: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "V1": (48.0, 49.1, 38.7, 33.7, 40.9, 38.8, 25.5, 21.5),
        "V2": (40.2, 31.0, 32.0, 31.7, 36.1, 32.0, 25.5, 20.1),
        "V4": (27.4, 42.1, 26.1, 21.2, 30.3, 23.8, 20.5, 19.4),
        "IT": (8.9, 11.0, 7.5, 8.6, 11.3, 8.6, 6.0, 4.7),
    }
)
#: Median noise ceiling in percent over all subjects' voxels pooled.
POOLED_MEDIAN_NOISE_CEILING: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 37.4, "V2": 31.2, "V4": 25.3, "IT": 7.8}
)
#: Highest noise ceiling in percent.
HIGHEST_NOISE_CEILING: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 83.0, "V2": 81.6, "V4": 77.3}
)
#: Medians and highest values are printed with one decimal; as for the mean of the medians.
NOISE_CEILING_TOLERANCE: Final = 0.5
#: Voxels whose noise ceiling lies above 30 %.
RELIABLE_VOXELS: Final[Mapping[str, int]] = MappingProxyType(
    {"V1": 5402, "V2": 4584, "V4": 1660, "IT": 11_744}
)
#: Relative: a count does not move unless the ncsnr or the mask does.
RELIABLE_VOXELS_TOLERANCE: Final = 0.001

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
