"""The ROI labels of a subject's cortex, in NSD's families, and their label names."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.synthetic.anatomy import CorticalSites, nearest, partition

LabelNames = Mapping[int, str]

_PRF: Final = ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4")
_STREAMS: Final = (
    "early",
    "midventral",
    "midlateral",
    "midparietal",
    "ventral",
    "lateral",
    "parietal",
)
_ECCENTRICITIES: Final = ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+")
_SULCI: Final = 28

# Parcels of HCP_MMP1 by the patch that holds them. The nine of IT-glasser come first, so that
# they are there however few voxels the ventral stream has.
_HCP: Final[Mapping[tuple[str, ...], LabelNames]] = MappingProxyType(
    {
        ("V1v", "V1d"): {1: "V1"},
        ("V2v", "V2d"): {4: "V2"},
        ("V3v", "V3d"): {5: "V3"},
        ("hV4",): {6: "V4"},
        ("ventral",): {
            18: "FFC",
            126: "PHA1",
            127: "PHA3",
            133: "TE1p",
            136: "TE2p",
            154: "VMV3",
            155: "PHA2",
            160: "VMV2",
            163: "VVC",
            7: "V8",
            22: "PIT",
            122: "PeEc",
            132: "TE1a",
            134: "TE2a",
            135: "TF",
            138: "PH",
        },
        ("midlateral",): {20: "LO1", 21: "LO2"},
        ("lateral",): {2: "MST", 23: "MT"},
        ("midparietal",): {13: "V3A", 19: "V3B"},
        ("parietal",): {16: "V7", 17: "IPS1"},
        ("frontal",): {180: "p24"},
    }
)
_KASTNER: Final[Mapping[tuple[str, ...], LabelNames]] = MappingProxyType(
    {
        **{(name,): {code: name} for code, name in enumerate(_PRF, start=1)},
        ("ventral",): {8: "VO1", 9: "VO2", 10: "PHC1", 11: "PHC2"},
        ("lateral",): {12: "TO2", 13: "TO1"},
        ("midlateral",): {14: "LO2", 15: "LO1"},
        ("midparietal",): {16: "V3B", 17: "V3A", 18: "IPS0", 19: "IPS1"},
        ("parietal",): {20: "IPS2", 21: "IPS3", 22: "IPS4", 23: "IPS5", 24: "SPL1"},
        ("frontal",): {25: "FEF"},
    }
)
_FLOC: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
        "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
        "floc-places": ("OPA", "PPA", "RSC"),
        "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    }
)


#: Areas that NSD's own subjects (1-based) lack.
_LACKED: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        1: ("mTL-faces", "mTL-bodies"),
        2: ("mTL-faces", "mTL-bodies", "FBA-1"),
        3: ("mTL-faces", "mTL-bodies", "mTL-words"),
        4: ("aTL-faces",),
        6: ("mTL-faces",),
        7: ("FBA-1", "mTL-bodies"),
    }
)


def _merged(parcels: Mapping[tuple[str, ...], LabelNames]) -> LabelNames:
    return {label: name for names in parcels.values() for label, name in sorted(names.items())}


def _numbered(names: tuple[str, ...]) -> LabelNames:
    return dict(enumerate(names, start=1))


LABEL_NAMES: Final[Mapping[str, LabelNames]] = MappingProxyType(
    {
        "prf-visualrois": _numbered(_PRF),
        "prf-eccrois": _numbered(_ECCENTRICITIES),
        "streams": _numbered(_STREAMS),
        "nsdgeneral": {1: "nsdgeneral"},
        "HCP_MMP1": dict(sorted(_merged(_HCP).items())),
        "Kastner2015": dict(sorted(_merged(_KASTNER).items())),
        "corticalsulc": _numbered(tuple(f"sulcus-{n}" for n in range(1, _SULCI + 1))),
        **{family: _numbered(names) for family, names in _FLOC.items()},
    }
)
"""The names of the labels of each family (ROI volume), by label."""


def make_labels(cortex: CorticalSites) -> dict[str, NDArray[np.int64]]:
    """Label the sites of a cortex in every family of ROIs: (n_sites,) int64, 0 for no label."""
    prf = np.zeros(len(cortex.patch), dtype=np.int64)
    for label, name in enumerate(_PRF, start=1):
        prf[cortex.in_patches(name)] = label

    streams = np.zeros_like(prf)
    streams[(prf >= 1) & (prf <= 6)] = 1
    streams[cortex.in_patches("hV4")] = 2
    streams[cortex.ventral] = 5
    for label, name in enumerate(_STREAMS, start=1):
        if name in ("midlateral", "midparietal", "lateral", "parietal"):
            streams[cortex.in_patches(name)] = label

    labels = {
        "prf-visualrois": prf,
        "prf-eccrois": _eccentricities(cortex, prf),
        "streams": streams,
        "nsdgeneral": (streams > 0).astype(np.int64),
        "HCP_MMP1": _parcels(cortex, _HCP),
        "Kastner2015": _parcels(cortex, _KASTNER),
        "corticalsulc": _sulci(cortex, streams),
    }
    for number, (family, names) in enumerate(_FLOC.items()):
        labels[family] = _category_areas(cortex, len(names), number)
    return labels


def make_labels_of_subject(cortex: CorticalSites, subject: int) -> dict[str, NDArray[np.int64]]:
    """Label the sites of a subject's (1-based) cortex: `make_labels`, without what it lacks."""
    labels = make_labels(cortex)
    for family, names in _FLOC.items():
        lacked = [names.index(name) + 1 for name in _LACKED.get(subject, ()) if name in names]
        labels[family][np.isin(labels[family], lacked)] = 0
    return labels


def _each_hemisphere(
    cortex: CorticalSites,
    inside: NDArray[np.bool_],
    part: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Label the voxels `inside` of each hemisphere by itself; `part` is given their indices."""
    labels = np.zeros(len(cortex.patch), dtype=np.int64)
    for right in (False, True):
        voxels = np.flatnonzero(inside & (cortex.right == right))
        labels[voxels] = part(voxels)
    return labels


def _parcels(
    cortex: CorticalSites, parcels: Mapping[tuple[str, ...], LabelNames]
) -> NDArray[np.int64]:
    """Split patches into compact parcels with the given labels."""
    labels = np.zeros(len(cortex.patch), dtype=np.int64)
    for patches, names in parcels.items():
        numbers = np.array(list(names))
        labels += _each_hemisphere(
            cortex,
            cortex.in_patches(*patches),
            lambda voxels, numbers=numbers: numbers[  # type: ignore[misc]
                partition(cortex.position[voxels], len(numbers))
            ],
        )
    return labels


def _eccentricities(cortex: CorticalSites, prf: NDArray[np.int64]) -> NDArray[np.int64]:
    """Label the visual areas by their distance from the occipital pole, in five rings."""

    def rings(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        position = cortex.position[voxels]
        pole = position[np.argmin(position[:, 1])]
        distance = ((position - pole) ** 2).sum(axis=1)
        rank = np.argsort(np.argsort(distance, kind="stable"), kind="stable")
        return 1 + rank * len(_ECCENTRICITIES) // len(voxels)

    return _each_hemisphere(cortex, prf > 0, rings)


def _sulci(cortex: CorticalSites, streams: NDArray[np.int64]) -> NDArray[np.int64]:
    """Label the inner half of the labelled cortex."""
    inner = (streams > 0) & (cortex.depth > np.median(cortex.depth[streams > 0]))
    return _each_hemisphere(
        cortex, inner, lambda voxels: 1 + partition(cortex.position[voxels], _SULCI)
    )


def _category_areas(cortex: CorticalSites, n_areas: int, number: int) -> NDArray[np.int64]:
    """Grow small areas from points of the ventral stream that differ between families."""

    def areas(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        position = cortex.position[voxels]
        parts = partition(position, 4 * n_areas)
        labels = np.zeros(len(voxels), dtype=np.int64)
        size = max(1, len(voxels) // 30)
        for area in range(n_areas):
            inside = np.flatnonzero(parts == (4 * area + number) % (parts.max() + 1))
            free = inside[labels[inside] == 0]
            if len(free):
                labels[nearest(position, free, position[free].mean(axis=0), size)] = area + 1
        return labels

    return _each_hemisphere(cortex, cortex.ventral, areas)
