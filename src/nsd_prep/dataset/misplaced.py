"""What lies in a folder in place of the betas that are read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.published import PREPARATION_FOLDERS


def betas_in_other_forms(dataset: Dataset, files: Iterable[Path]) -> dict[Path, str]:
    """Return files of betas that lie in place of missing ones, and what to do about each kind.

    Parameters
    ----------
    dataset : Dataset
        In a folder of this machine.
    files : iterable of Path
        Sessions' files that are not there.

    Returns
    -------
    dict of Path to str
        The first file of each kind.
    """
    first: dict[str, Path] = {}
    for file in files:
        for path, advice in _candidates(dataset, file):
            if advice not in first and path.exists():
                first[advice] = path
    return {path: advice for advice, path in first.items()}


def _candidates(dataset: Dataset, file: Path) -> Iterator[tuple[Path, str]]:
    """Give the other forms that NSD has of a session's betas (NSD data manual, "Betas")."""
    folder, name = file.parent, file.stem
    for ending in (".nii.gz", ".nii"):
        yield folder / f"{name}{ending}", "it is NIfTI: download the .hdf5 files beside it"
    for side in ("lh", "rh"):
        for ending in (".mgh", ".hdf5"):
            yield folder / f"{side}.{name}{ending}", "it is on a surface: download func1pt8mm"
    if dataset.layout == "flat":
        return
    space = folder.parent
    for preparation, other in PREPARATION_FOLDERS.items():
        if other != dataset.preparation:
            advice = f'it is the preparation {preparation}: give betas="{preparation}" to read it'
            yield space / other / file.name, advice
        subject = space.parent
        for ending in (".hdf5", ".nii.gz"):
            yield (
                subject / "func1mm" / other / f"{name}{ending}",
                "it is on the 1-mm grid: download func1pt8mm",
            )
        yield (
            subject / "fsaverage" / other / f"lh.{name}.mgh",
            "it is on the surface fsaverage: download func1pt8mm",
        )
        yield (
            subject / "nativesurface" / other / f"lh.{name}.hdf5",
            "it is on the subject's surface: download func1pt8mm",
        )
