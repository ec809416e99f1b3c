"""What a run makes of what lies in an output folder, and whether the rest belongs beside it."""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from nsd_prep.assemblies.identifiers import region_assembly_file
from nsd_prep.dataset.image_table import IMAGES_CSV, IMAGES_PARQUET
from nsd_prep.dataset.space import FUNC1PT8MM
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.earlier import Options, RunRecord

_TABLES: Final = (outputs.VOXELS, outputs.NOISE_CEILINGS, outputs.SESSIONS, outputs.RELIABILITY)
_IMAGES: Final = ([IMAGES_CSV], [IMAGES_PARQUET])
#: What runs write into folders in which users may have files of their own.
_FORMS: Final = {
    outputs.REPORT: re.compile(
        r"index\.html|figures\.pdf|figures/[^/]+\.png|tables/[^/]+\.csv|markdown/[^/]+\.md"
    ),
    outputs.BRAINSCORE: re.compile(
        r"Allen2022_[^/]+\.nc|stimulus_metadata_[^/]+\.csv|stimuli_[^/]+/[^/]+\.png"
    ),
}
_FOLDERS: Final = re.compile(
    rf"{outputs.SINGLE_TRIALS}|{outputs.BRAINSCORE}(/stimuli_[^/]+)?"
    rf"|({outputs.SINGLE_TRIALS}/)?{outputs.REPORT}(/(figures|tables|markdown))?"
)
#: Options with another value of which a run makes a file that shows something else.
_OF_WHAT_IS_SHOWN: Final = ("features", "crossnobis", "suffix", "coco_annotations")
_TRIALS_REPORT: Final = f"{outputs.SINGLE_TRIALS}/{outputs.REPORT}"


class Difference(NamedTuple):
    """What two runs differ in: an argument, or something else that is known of them."""

    what: str
    theirs: object
    ours: object
    is_argument: bool = False

    def __str__(self) -> str:
        """Return it as part of a sentence."""
        if self.is_argument:
            theirs, ours = (f"{self.what}={_as_argument(v)}" for v in (self.theirs, self.ours))
            return f"{theirs} there, {ours} in this run"
        return f"{self.what}: {self.theirs} there, {self.ours} in this run"


def _as_argument(value: object) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)


def makes(run: Options, name: str) -> bool:
    """Return whether a run makes the file of a name, or the folder that it lies in."""
    parts = name.split("/")
    if name == outputs.CHECKS:
        return True
    if run.single_trials:
        subfolder = [outputs.SINGLE_TRIALS] if run.assemblies else []
        if parts[: len(subfolder)] == subfolder:
            rest = parts[len(subfolder) :]
            subject = re.fullmatch(r"subj(\d\d)(_voxels)?\.(nc|zarr|csv)", rest[0] if rest else "")
            if subject:
                return int(subject[1]) in run.subjects
            if rest in _IMAGES:
                return True
            if rest[:1] == [outputs.REPORT]:
                return run.report
    if not run.assemblies:
        return False
    if parts[0] == outputs.REPORT:
        return run.report
    if parts[0] == outputs.BRAINSCORE:
        return run.brainscore
    tables = (*_TABLES, outputs.TRIALS, outputs.SPLIT)
    assemblies = [region_assembly_file(region, run.space) for region in run.regions]
    return name in tables or name in assemblies


def writes(run: Options, name: str) -> bool:
    """Return whether a run may write a file of a name; of what a folder holds by its form."""
    folder, _, rest = name.removeprefix(f"{outputs.SINGLE_TRIALS}/").partition("/")
    forms = _FORMS.get(folder)
    return makes(run, name) and (forms is None or forms.fullmatch(rest) is not None)


def writes_into(run: Options, name: str) -> bool:
    """Return whether a run may write files into the folder of a name."""
    if _FOLDERS.fullmatch(name) is None:
        return False
    if name == outputs.SINGLE_TRIALS:
        return run.single_trials and run.assemblies
    return makes(run, f"{name}/")


def is_covered(name: str, ours: Options, theirs: Options) -> bool:
    """Return whether what a run makes under a name shows all that another's file of it does.

    Of one region's or subject's file it does; of what several share only where all are made again.
    """
    regions = theirs.regions.keys() <= ours.regions.keys()
    assemblies = not theirs.assemblies or (ours.assemblies and regions)
    packaged = not (theirs.assemblies and theirs.brainscore) or (
        ours.assemblies and ours.brainscore and ours.suffix == theirs.suffix
    )
    trials = not theirs.single_trials or (
        ours.single_trials and regions and set(theirs.subjects) <= set(ours.subjects)
    )
    if name.removeprefix(f"{outputs.SINGLE_TRIALS}/") in (IMAGES_CSV, IMAGES_PARQUET):
        # The same for all subjects and regions of a dataset, but for the annotations.
        return theirs.coco_annotations in (None, ours.coco_annotations)
    same_kind = ours.assemblies == theirs.assemblies
    shown = ours.features == theirs.features and ours.crossnobis >= theirs.crossnobis
    first = name.split("/")[0]
    if name in _TABLES:
        return assemblies
    if name == outputs.CHECKS:
        return assemblies and packaged and trials and same_kind
    if first == outputs.BRAINSCORE:
        return assemblies and packaged
    if first == outputs.REPORT:
        return same_kind and (assemblies and packaged and shown if theirs.assemblies else trials)
    return trials or not name.startswith(f"{_TRIALS_REPORT}/")


def options_apart(name: str, ours: Options, theirs: Options) -> list[str]:
    """Return the options for which alone a file is not covered; none where ours is of less too."""

    def is_covered_with(options: Collection[str]) -> bool:
        same = {option: getattr(ours, option) for option in options}
        return is_covered(name, ours, theirs.model_copy(update=same))

    if not is_covered_with(_OF_WHAT_IS_SHOWN):
        return []
    return [
        option
        for option in _OF_WHAT_IS_SHOWN
        if not is_covered_with([other for other in _OF_WHAT_IS_SHOWN if other != option])
    ]


def name_aside(name: str, run: str) -> str:
    """Return the name that a file of what several share gets when it is not made again in full."""
    path = PurePosixPath(name)
    if len(path.parts) == 1 or path.parts[1:] in ((IMAGES_CSV,), (IMAGES_PARQUET,)):
        return path.with_name(f"{path.stem}-{run}{path.suffix}").as_posix()
    folder = _TRIALS_REPORT if name.startswith(f"{_TRIALS_REPORT}/") else path.parts[0]
    return f"{folder}-{run}{name.removeprefix(folder)}"


def differences(ours: RunRecord, theirs: RunRecord) -> list[Difference]:
    """Return why the results of two runs do not belong into one folder; nothing where they do."""
    return list(_differences(ours, theirs))


def _differences(ours: RunRecord, theirs: RunRecord) -> Iterator[Difference]:
    mine, other = ours.parameters, theirs.parameters
    for fact, value in _FACTS.items():
        if value(ours) != value(theirs):
            yield Difference(fact, value(theirs), value(ours))
    names: list[str] = []
    if mine.assemblies and other.assemblies:
        names += ["subjects", "seed", "train_fraction", "invalid_voxels"]
        if mine.brainscore and other.brainscore and mine.suffix == other.suffix:
            names.append("zscore_images")
    if mine.single_trials or other.single_trials:
        names += ["seed", "train_fraction"]  # of the column nsd_prep, and of the assemblies' split
    if mine.single_trials and other.single_trials:
        names += ["normalise", "images", "average", "dtype", "format", "split_file"]
        names += ["min_ncsnr", "min_noise_ceiling", "min_reliability"]
        if "train-only" in (mine.normalise, other.normalise):
            names.append("split")
            if "nsd_prep" in (mine.split, other.split):
                names += ["subjects", "seed", "train_fraction"]
    for name in dict.fromkeys(names):
        if getattr(mine, name) != getattr(other, name):
            yield Difference(name, getattr(other, name), getattr(mine, name), is_argument=True)
    for region in mine.regions.keys() & other.regions.keys():
        if mine.regions[region] != other.regions[region]:
            definitions = (other.regions[region], mine.regions[region])
            yield Difference(f"definition of {region}", *definitions)
    if mine.single_trials and other.single_trials and mine.regions.keys() != other.regions.keys():
        again = mine.regions.keys() >= other.regions.keys()
        if not (again and set(mine.subjects) >= set(other.subjects)):
            yield Difference("regions", tuple(other.regions), tuple(mine.regions), is_argument=True)
    if mine.assemblies and other.assemblies and not mine.regions.keys() >= other.regions.keys():
        numbers = theirs.images.get("number"), ours.images.get("number")
        if theirs.images != ours.images:
            same_number = "; other ones" if numbers[0] == numbers[1] else ""
            yield Difference(f"images that all subjects saw three times{same_number}", *numbers)


_FACTS: Final[dict[str, Callable[[RunRecord], str | None]]] = {
    "nsd-prep": lambda record: record.software.get("nsd-prep"),
    "dataset": lambda record: record.dataset.get("name"),
    "preparation": lambda record: record.dataset.get("preparation"),
    "space": lambda record: record.dataset.get("space", FUNC1PT8MM),
    "surface files": lambda record: record.dataset.get("surface_files"),
}
