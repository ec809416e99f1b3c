"""What lies in a folder in place of the betas that are read."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.published import PREPARATION_FOLDERS
from nsd_prep.dataset.space import (
    FSAVERAGE,
    FUNC1MM,
    FUNC1PT8MM,
    HEMISPHERES,
    NATIVESURFACE,
    SURFACES,
)

#: How a session's betas are called in each space.
_NAMES: Final = {
    FUNC1PT8MM: ("{}.hdf5", "{}.nii.gz"),
    FUNC1MM: ("{}.hdf5", "{}.nii.gz"),
    FSAVERAGE: ("lh.{}.mgh",),
    NATIVESURFACE: ("lh.{}.hdf5",),
}


def betas_in_other_forms(dataset: Dataset, files: Iterable[Path]) -> dict[Path, str]:
    """Return the first file of each kind that stands in for missing ones, and what to do."""
    first: dict[str, Path] = {}
    for file in files:
        for path, advice in _candidates(dataset, file):
            if advice not in first and path.exists():
                first[advice] = path
    return {path: advice for advice, path in first.items()}


def _candidates(dataset: Dataset, file: Path) -> Iterator[tuple[Path, str]]:
    """Give the other forms that NSD has of a session's betas (NSD data manual, "Betas")."""
    folder, name = file.parent, file.name.removeprefix("lh.").removeprefix("rh.")
    name = name.removesuffix(file.suffix)
    if not dataset.is_surface:
        for ending in (".nii.gz", ".nii"):
            yield folder / f"{name}{ending}", "it is NIfTI: download the .hdf5 files beside it"
        for side in HEMISPHERES:
            for ending in (".mgh", ".hdf5"):
                path = folder / f"{side}.{name}{ending}"
                yield path, f"it is on a surface: download {dataset.space}"
    if dataset.layout == "flat":
        return
    space = folder.parent
    for preparation, other in PREPARATION_FOLDERS.items():
        if other != dataset.preparation:
            advice = f"it is of the preparation {preparation}: choose {preparation} to read it"
            yield space / other / file.name, advice
        for where, names in _NAMES.items():
            if where != space.name:
                advice = _advice(dataset, where)
                for pattern in names:
                    yield space.parent / where / other / pattern.format(name), advice


def _advice(dataset: Dataset, space: str) -> str:
    """Return what to do about betas that lie in another space than those that are missing."""
    if dataset.space == FSAVERAGE and space in SURFACES:
        files = "mgh" if dataset.is_through_native else "native"
        return f'it is of {space}: give surface_files="{files}" to read it'
    return f"it is in the space {space}: download {dataset.space}, or choose {space} to read it"
