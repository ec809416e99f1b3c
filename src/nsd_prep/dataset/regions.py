"""Regions of the brain: how each is defined, and which voxels it has in a subject."""

import difflib
import re
import reprlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import SpaceName
from nsd_prep.dataset.space import (
    FSAVERAGE,
    FUNC1MM,
    FUNC1PT8MM,
    NATIVESURFACE,
    Hemisphere,
    SurfaceSpace,
    VolumeSpace,
)
from nsd_prep.dataset.volumes import OUTSIDE_CORTEX

#: Part of file names, which may have 255 bytes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


#: Numbers from 1 up to int16's last: 0 and -1 are no labels, and true is no number.
LabelNumber = Annotated[int, Field(strict=True, ge=1, le=np.iinfo(np.int16).max)]


LabelName = Annotated[str, Field(min_length=1)]


_A_LABEL = "a label is a whole number from 1 to 32767, or a name"


_A_TABLE = "this must be a table"


#: What pydantic finds wrong in a regions file, in the words of the file.
_REASONS: Final = {
    **dict.fromkeys(
        ("int_type", "int_parsing", "greater_than_equal", "less_than_equal", "string_too_short"),
        _A_LABEL,
    ),
    **dict.fromkeys(("tuple_type", "too_short"), "this must be a list of labels, not empty"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), _A_TABLE),
    "string_pattern_mismatch": "a volume's name holds letters, digits and . _ - alone",
    "extra_forbidden": "this key is unknown",
    "missing": "this key is missing",
}


#: Part of file names, as prf-visualrois and HCP_MMP1.
VolumeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


#: The volumes of region labels that NSD has for each subject. NSD data manual, "ROIs".
ROI_VOLUMES: Final = (
    "HCP_MMP1",
    "Kastner2015",
    "MTL",
    "corticalsulc",
    "floc-bodies",
    "floc-faces",
    "floc-places",
    "floc-words",
    "nsdgeneral",
    "prf-eccrois",
    "prf-visualrois",
    "streams",
    "thalamus",
)


#: Region labels that NSD has on fsaverage, and those that it has on subjects' own surfaces beside
#: them (NSD data manual, "ROIs").
_FSAVERAGE_LABELS: Final = (
    "HCP_MMP1",
    "Kastner2015",
    "corticalsulc",
    "fVTC",
    "gEVC",
    "gVTC",
    "hVTC",
    "nsdgeneral",
    "streams",
    "visualsulc",
)
_OWN_LABELS: Final = (
    "floc-bodies",
    "floc-faces",
    "floc-places",
    "floc-words",
    "prf-eccrois",
    "prf-visualrois",
)
#: The region labels that NSD has in each space.
LABELS_OF_SPACES: Final[Mapping[SpaceName, tuple[str, ...]]] = MappingProxyType(
    {
        FUNC1PT8MM: ROI_VOLUMES,
        FUNC1MM: ROI_VOLUMES,
        FSAVERAGE: _FSAVERAGE_LABELS,
        NATIVESURFACE: (*_FSAVERAGE_LABELS, *_OWN_LABELS),
    }
)


class RegionDefinition(BaseModel):
    """What a region is: labels in one volume of region labels, or in several.

    Attributes
    ----------
    labels : dict of str to tuple of (int or str)
        For each ROI volume (``"prf-visualrois"``), the labels that belong to the region: numbers,
        or names from the volume's label table.
    hemisphere : {"lh", "rh"}, optional
        The hemisphere that the region is confined to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: dict[
        VolumeName, Annotated[tuple[LabelNumber | LabelName, ...], Field(min_length=1)]
    ] = Field(min_length=1)
    hemisphere: Hemisphere | None = None


#: The regions that need no file of the user's, as volumes and subjects' own surfaces have them.
#: Label numbers: NSD data manual, "ROIs".
BUILT_IN_REGIONS: Final[Mapping[str, RegionDefinition]] = MappingProxyType(
    {
        "V1": RegionDefinition(labels={"prf-visualrois": (1, 2)}),
        "V2": RegionDefinition(labels={"prf-visualrois": (3, 4)}),
        "V3": RegionDefinition(labels={"prf-visualrois": (5, 6)}),
        "V4": RegionDefinition(labels={"prf-visualrois": (7,)}),
        "IT": RegionDefinition(labels={"streams": (5,)}),
        "IT-glasser": RegionDefinition(
            labels={"HCP_MMP1": (18, 126, 127, 133, 136, 154, 155, 160, 163)}
        ),
        "nsdgeneral": RegionDefinition(labels={"nsdgeneral": (1,)}),
        "early": RegionDefinition(labels={"streams": (1,)}),
        "midventral": RegionDefinition(labels={"streams": (2,)}),
        "midlateral": RegionDefinition(labels={"streams": (3,)}),
        "midparietal": RegionDefinition(labels={"streams": (4,)}),
        "ventral": RegionDefinition(labels={"streams": (5,)}),
        "lateral": RegionDefinition(labels={"streams": (6,)}),
        "parietal": RegionDefinition(labels={"streams": (7,)}),
    }
)


#: What these regions are on fsaverage, which has no labels of the subjects' own retinotopy: those
#: of an atlas that NSD calls Kastner2015.
_FSAVERAGE_REGIONS: Final[Mapping[str, RegionDefinition]] = MappingProxyType(
    {
        "V1": RegionDefinition(labels={"Kastner2015": (1, 2)}),
        "V2": RegionDefinition(labels={"Kastner2015": (3, 4)}),
        "V3": RegionDefinition(labels={"Kastner2015": (5, 6)}),
        "V4": RegionDefinition(labels={"Kastner2015": (7,)}),
    }
)


def built_in_regions(space: SpaceName) -> dict[str, RegionDefinition]:
    """Return what the built-in regions are in a space: the same names in every one."""
    others = _FSAVERAGE_REGIONS if space == FSAVERAGE else {}
    return {**BUILT_IN_REGIONS, **others}


def read_regions_file(path: Path) -> dict[str, RegionDefinition]:
    """Read a user's own regions from a TOML file.

    Parameters
    ----------
    path : Path
        One table a region, named as the region::

            [FFA-left]
            hemisphere = "lh"                      # optional
            labels = { floc-faces = [2, "FFA-2"] }  # ROI volume = label numbers or names

    Returns
    -------
    dict of str to RegionDefinition
        In the order of the file.

    Raises
    ------
    ParameterError
        The file is not there, is not TOML, or a table is not a region.
    """
    try:
        tables = tomllib.loads(read_whole(path).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise ParameterError(
            f"The regions file {path} is not there: correct regions_file=."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParameterError(
            f"The regions file {path} is not TOML ({error}): correct it."
        ) from error
    try:
        return TypeAdapter(dict[str, RegionDefinition]).validate_python(tables)
    except ValidationError as error:
        first = error.errors()[0]
        # pydantic names the member of a union, and a key as such, too.
        inner = ("[key]", "constrained-int", "constrained-str")
        where = ".".join(str(part) for part in first["loc"] if part not in inner)
        reason = _REASONS.get(first["type"], first["msg"])
        raise ParameterError(
            f"The regions file {path} is wrong at {where}: {reason}, found "
            f"{reprlib.repr(first['input'])}; expected for each region a table like [FFA] with "
            "labels = { floc-faces = [1, 2] }."
        ) from error


def nearest_region(name: str) -> str | None:
    """Return the built-in region that somebody who wrote a name may have meant."""
    names = {known.casefold(): known for known in BUILT_IN_REGIONS}
    near = difflib.get_close_matches(name.casefold(), names, 1)
    return names[near[0]] if near else None


def chosen_regions(
    names: Sequence[str],
    own: Mapping[str, RegionDefinition],
    space: SpaceName = FUNC1PT8MM,
) -> dict[str, RegionDefinition]:
    """Return the definitions of a run's regions: the built-in ones named, then the user's own.

    Parameters
    ----------
    names : sequence of str
        Built-in regions.
    own : mapping of str to RegionDefinition
        The user's regions, all of which are made.
    space : {"func1pt8mm", "func1mm", "fsaverage", "nativesurface"}
        The run's, which decides what built-in regions are.

    Returns
    -------
    dict of str to RegionDefinition
        At least one.

    Raises
    ------
    ParameterError
        A name is unknown, given twice, cannot be part of a file name, or there is none.
    """
    unknown = [name for name in names if name not in BUILT_IN_REGIONS]
    if unknown:
        near = [name for name in map(nearest_region, unknown) if name]
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise ParameterError(
            f"The region {', '.join(unknown)} is unknown: give some of "
            f"{', '.join(BUILT_IN_REGIONS)} with regions=, or define it in a file given with "
            f"regions_file=.{hint}"
        )
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ParameterError(
            f"The region {', '.join(twice)} is given more than once: give each region once "
            "with regions=."
        )
    if not names and not own:
        raise ParameterError("No region is chosen: give some with regions=.")
    # Files of regions whose names differ in case alone would overwrite each other on some disks.
    taken = {name.casefold() for name in BUILT_IN_REGIONS}
    for name in own:
        if not _NAME.fullmatch(name):
            raise ParameterError(
                f"The name {name!r} of a region of your own cannot be part of a file name: use up "
                "to 100 letters, digits, dashes and underscores."
            )
        if name.casefold() in taken:
            raise ParameterError(
                f"Your own region {name} has the name of another region, or of a built-in one: "
                "give it another name."
            )
        taken.add(name.casefold())
    built_in = built_in_regions(space)
    return {name: built_in[name] for name in names} | dict(own)


def numbered_labels(labels: Iterable[int | str], table: Mapping[str, int]) -> tuple[int, ...]:
    """Return label numbers in place of names, by a table of each name's: ascending, each once.

    Raises
    ------
    ParameterError
        A name is not in the table.
    """
    unknown = [label for label in labels if isinstance(label, str) and label not in table]
    if unknown:
        raise ParameterError(
            f"the label name {', '.join(map(str, unknown))} is not in its label table, which "
            f"holds {', '.join(table) or 'none'}; use one of these, or a label number."
        )
    return tuple(sorted({table[label] if isinstance(label, str) else label for label in labels}))


def merge_hemispheres(
    left: NDArray[np.int16], right: NDArray[np.int16]
) -> tuple[NDArray[np.int16], int]:
    """Return the label volume of both hemispheres, and how many voxels both claim.

    All are int16 (Z, Y, X). A voxel of a hemisphere is not -1; where neither volume has -1, as in
    MTL and thalamus (NSD data manual, "ROIs"), it has a label above 0.
    """
    of_cortex = left.min() == OUTSIDE_CORTEX or right.min() == OUTSIDE_CORTEX
    outside = OUTSIDE_CORTEX if of_cortex else 0
    overlap = int(np.count_nonzero((left != outside) & (right != outside)))
    return np.where(left != outside, left, right), overlap


def voxels_with_labels(volume: NDArray[np.int16], labels: Sequence[int]) -> NDArray[np.int64]:
    """Return where a volume (Z, Y, X) or a surface map (V,), int16, has one of some labels.

    Returns
    -------
    ndarray of int64, shape (n_voxels,)
        Sites of its space, ascending: the order of the betas' file.
    """
    return np.flatnonzero(np.isin(volume, labels)).astype(np.int64)


def union_of_regions(regions: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the sites that are in any region, int64 (n_sites,), each once, ascending.

    It is the order of the columns of single trials.
    """
    return np.unique(np.concatenate(list(regions.values())))


@dataclass(frozen=True)
class VoxelSelection:
    """The voxels of a subject's regions.

    Attributes
    ----------
    space : VolumeSpace or SurfaceSpace
        Where they lie.
    regions : mapping of str to ndarray of int64, shape (n_voxels,)
        For each region, sites of the space, ascending. Regions may share voxels, and one that a
        subject lacks is empty.
    absent_labels : tuple of (str, str, int)
        Region, volume and label, for each label of a region that has no voxel in the subject.
    hemispheres : tuple of two ndarrays of int64, or None
        Labelled voxels (sites) of the left and of the right hemisphere, of the first volume that
        the dataset has for each.
    """

    space: VolumeSpace | SurfaceSpace
    regions: Mapping[str, NDArray[np.int64]]
    absent_labels: tuple[tuple[str, str, int], ...] = ()
    hemispheres: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def union(self) -> NDArray[np.int64]:
        """Return the voxels that are in any of the regions (n_voxels,), each once, ascending."""
        return union_of_regions(self.regions)


def definition_as_text(definition: RegionDefinition) -> str:
    """Return a definition in one line, for an attribute of a file.

    Such as ``"prf-visualrois 1 2"`` or ``"lh floc-faces 2 3; lh streams 5"``.
    """
    side = f"{definition.hemisphere} " if definition.hemisphere else ""
    parts = [
        f"{side}{volume} {' '.join(str(label) for label in labels)}"
        for volume, labels in definition.labels.items()
    ]
    return "; ".join(parts)
