"""The labels of NSD's atlases that exports name by themselves: NSD data manual, "ROIs"."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nsd_prep.dataset.regions import BUILT_IN_REGIONS, RegionDefinition

#: The names of labels, from 1 on, by atlas.
ATLASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
        "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
        "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
        "floc-places": ("OPA", "PPA", "RSC"),
        "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
        "streams": (
            "early",
            "midventral",
            "midlateral",
            "midparietal",
            "ventral",
            "lateral",
            "parietal",
        ),
    }
)
#: A region for each of these labels, by its name.
REGIONS_OF_LABELS: Final[Mapping[str, RegionDefinition]] = MappingProxyType(
    {
        name: BUILT_IN_REGIONS.get(name, RegionDefinition(labels={atlas: (label,)}))
        for atlas, names in ATLASES.items()
        for label, name in enumerate(names, start=1)
    }
)
