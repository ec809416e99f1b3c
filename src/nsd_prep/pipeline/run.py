"""A run: its parameters, resolved for the dataset at hand."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from nsd_prep import __version__
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.file_states import FileStates
from nsd_prep.core.folders import MIRROR, absolute
from nsd_prep.core.parameters import (
    Fraction,
    InvalidVoxels,
    Minimum,
    MissingRegions,
    Normalise,
    OptionalRegion,
    OptionalText,
    Preparation,
    Runner,
    Seed,
    SingleTrialImages,
    SpaceName,
    StoredFormat,
    StoredType,
    Suffix,
    SurfaceFiles,
    TrainingSplit,
    Workers,
    ZScoreImages,
    parameters,
)
from nsd_prep.dataset.layout import DATASET_FOLDERS, Dataset, chosen_subjects, surface_files_there
from nsd_prep.dataset.published import REPETITIONS
from nsd_prep.dataset.regions import (
    RegionDefinition,
    chosen_regions,
    nearest_region,
    read_regions_file,
)
from nsd_prep.dataset.space import FSAVERAGE, FUNC1PT8MM
from nsd_prep.dataset.splits import OWN_SPLIT
from nsd_prep.single_trials.reliability import VoxelMinima
from nsd_prep.single_trials.writer import check_storage
from nsd_prep.sources.folder import FolderSource
from nsd_prep.sources.opening import open_dataset

_logger: Final = logging.getLogger(__name__)
#: Where no split is chosen.
_USUAL_SPLIT: Final = "shared1000"


class Run(BaseModel):
    """The parameters of `nsd_prep.core.parameters.parameters`, resolved.

    Paths are absolute, ``subjects`` names all where none were chosen, and ``regions`` holds the
    definitions of the built-in regions and of the user's own. JSON-able: it stands in the manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nsd_root: str
    output_dir: Path
    cache_dir: Path
    betas: Preparation | None
    space: SpaceName
    surface_files: SurfaceFiles | None
    subjects: tuple[int, ...]
    regions: dict[str, RegionDefinition]
    seed: Seed
    train_fraction: Fraction
    invalid_voxels: InvalidVoxels
    missing_regions: MissingRegions
    zscore_images: ZScoreImages
    suffix: Suffix
    features: Path | None
    brainscore: bool
    report: bool
    crossnobis: bool
    runner: Runner
    workers: Workers
    dask_address: OptionalText
    assemblies: bool
    single_trials: bool
    normalise: Normalise
    images: SingleTrialImages
    average: bool
    split: TrainingSplit
    split_file: Path | None
    coco_annotations: Path | None
    min_ncsnr: Minimum
    min_noise_ceiling: Minimum
    min_reliability: Minimum
    dtype: StoredType
    format: StoredFormat
    check: bool
    refresh: bool
    replace: bool
    synthetic: bool
    accept_nsd_terms: bool
    keep_voxels: OptionalRegion

    _dataset: Dataset = PrivateAttr()

    @property
    def minima(self) -> VoxelMinima:
        """What voxels of single trials must have at least."""
        return VoxelMinima(self.min_ncsnr, self.min_noise_ceiling, self.min_reliability)

    @property
    def training_split(self) -> str:
        """The column of trials whose training images count for train-only."""
        return OWN_SPLIT if self.split_file else self.split

    def dataset(self) -> Dataset:
        """Return the dataset that the run reads: one object, with one set of connections."""
        return self._dataset

    def attributes(self) -> dict[str, str | int | float]:
        """Return what determines the data of the run's assemblies; nothing of when or where."""
        dataset = self.dataset()
        numbers = "float64" if dataset.is_surface else "float32"
        return {
            "software": f"nsd-prep {__version__}",
            "dataset": dataset.name,
            "preparation": dataset.preparation,
            **self.space_facts(),
            "normalisation": f"z-score over the trials of each session ({numbers}, population SD)",
            "subjects": " ".join(str(subject) for subject in self.subjects),
            "repetitions": REPETITIONS,
            "noise_ceiling_k": REPETITIONS,
            "invalid_voxels": self.invalid_voxels,
            "seed": self.seed,
            "train_fraction": self.train_fraction,
        }

    def space_facts(self) -> dict[str, str]:
        """Return where responses lie, if not in func1pt8mm, and what they are taken from."""
        if self.space == FUNC1PT8MM:
            return {}
        return {"space": self.space, **self.dataset().origin}

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Return a run; what is wrong with a value is a ParameterError of one sentence."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise impossible_value(error) from error


def impossible_value(error: ValidationError) -> ParameterError:
    """Return a sentence about the first value that is not possible."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    is_region = first["type"] == "literal_error" and name in ("regions", "keep_voxels")
    near = nearest_region(str(first["input"])) if is_region else None
    hint = f" Did you mean {near}?" if near else ""
    return ParameterError(
        f"The value {first['input']!r} of {name}= is not possible: "
        f"{first['msg'][0].lower()}{first['msg'][1:]}; give another.{hint}"
    )


def plan_run(
    *,
    nsd_root: str | Path | None,
    output_dir: Path,
    subjects: Sequence[int] | None,
    regions: Sequence[str],
    regions_file: Path | None,
    betas: Preparation | None,
    space: SpaceName,
    surface_files: SurfaceFiles | None,
    cache_dir: Path | None,
    features: Path | None,
    split_file: Path | None,
    coco_annotations: Path | None,
    accept_nsd_terms: bool,
    **others: Any,
) -> Run:
    """Resolve parameters for the dataset at hand.

    Parameters
    ----------
    **parameters
        As `nsd_prep.core.parameters.parameters` returns them.

    Returns
    -------
    Run
        With absolute paths, all subjects where none are named, and the regions' definitions.

    Raises
    ------
    MissingFilesError, InputFileError
        There is no dataset, or it does not say what it is.
    ParameterError
        A parameter is not possible.
    """
    if nsd_root is None or not str(nsd_root).strip():
        raise ParameterError(
            "The NSD root is not set: give the dataset's folder with nsd_root=, which a "
            "deployment has as a parameter too."
        )
    output_dir = absolute(output_dir)
    cache_dir = absolute(cache_dir) if cache_dir else output_dir / "cache"
    dataset = open_dataset(
        nsd_root if "://" in str(nsd_root) else absolute(nsd_root),
        betas,
        mirror_folder=cache_dir / MIRROR,
        # Not accepted here may still have been accepted before, or in the environment.
        accept_nsd_terms=accept_nsd_terms or None,
        space=space,
    )
    chosen = chosen_subjects(dataset, subjects)
    chosen_files = surface_files
    if space == FSAVERAGE:
        chosen_files = surface_files or surface_files_there(dataset, chosen)
        dataset = replace(dataset, surface_files=chosen_files)
    elif surface_files is not None:
        chosen_files = None
        _logger.warning(f"surface_files= has no effect in the space {space}, only in {FSAVERAGE}.")
    states = dataset.source.states
    own = _own_regions(absolute(regions_file), states) if regions_file else {}
    for name, folder in written_folders(output_dir, cache_dir).items():
        refuse_dataset(folder, dataset, name)
    features = _own_file(features, "features", "features")
    split_file = _own_file(split_file, "split", "split_file")
    if split_file and others.get("split", _USUAL_SPLIT) != _USUAL_SPLIT:
        raise ParameterError(
            f"Both split={others['split']!r} and split_file={str(split_file)!r} are given: give "
            "one of them."
        )
    run = Run.checked(
        nsd_root=str(nsd_root) if "://" in str(nsd_root) else str(dataset.root),
        output_dir=output_dir,
        cache_dir=cache_dir,
        betas=betas,
        space=space,
        surface_files=chosen_files,
        subjects=chosen,
        regions=chosen_regions(regions, own, space),
        features=features,
        split_file=split_file,
        coco_annotations=absolute(coco_annotations) if coco_annotations else None,
        accept_nsd_terms=accept_nsd_terms,
        **others,
    )
    run._dataset = dataset
    if not (run.assemblies or run.single_trials):
        raise ParameterError(
            "Neither assemblies nor single trials would be written: leave out assemblies=False, "
            "or give single_trials=True."
        )
    if run.single_trials:
        check_storage(run.dtype, run.format)
    for option, needed in _without_effect(run):
        _logger.warning(f"{option}= has no effect without {needed}.")
    return run


def _own_regions(file: Path, states: FileStates | None) -> dict[str, RegionDefinition]:
    """Read a user's own regions, and note what the file holds."""
    if states is None or not file.is_file():
        return read_regions_file(file)
    states.note_content(file)
    regions = read_regions_file(file)
    states.note_content(file)  # the same, or it was changed meanwhile
    return regions


def _without_effect(run: Run) -> Iterator[tuple[str, str]]:
    """Give the parameters that were chosen and change nothing, and what each would need."""
    usual = parameters()
    train_and_test = run.assemblies and run.brainscore
    for needed, there, names in (
        ('runner="dask"', run.runner == "dask", ("dask_address",)),
        ("the report of assemblies", run.assemblies and run.report, ("crossnobis",)),
        ("assemblies", run.assemblies, ("invalid_voxels",)),
        ("train and test assemblies", train_and_test, ("zscore_images", "suffix")),
        ("a report of train and test assemblies", train_and_test and run.report, ("features",)),
        (
            "single_trials=True",
            run.single_trials,
            (
                "normalise",
                "images",
                "average",
                "dtype",
                "format",
                "split_file",
                "coco_annotations",
                "min_ncsnr",
                "min_noise_ceiling",
                "min_reliability",
            ),
        ),
        (
            'single_trials=True and normalise="train-only"',
            run.single_trials and run.normalise == "train-only",
            ("split",),
        ),
    ):
        for name in names:
            if not there and getattr(run, name) != usual[name]:
                yield name, needed


def _own_file(path: str | Path | None, what: str, name: str) -> Path | None:
    """Return the absolute path of a file of the user's, which must be there."""
    if not path:
        return None
    file = absolute(path)
    if not file.is_file():
        state = "is not there" if not file.exists() else "is a folder, a pipe or a device"
        raise ParameterError(f"The {what} file {file} {state}: correct {name}=.")
    return file


def written_folders(output_dir: Path, cache_dir: Path) -> dict[str, Path]:
    """Return the folders that a run writes into, by parameter; `open_nsd` has but a cache."""
    folders = {"output_dir": output_dir, "cache_dir": cache_dir}
    return {"cache_dir": cache_dir} if output_dir == cache_dir else folders


def refuse_dataset(folder: Path, dataset: Dataset, name: str = "") -> None:
    """Raise ParameterError where what is to be written into is the dataset, or a folder of it."""
    if not isinstance(dataset.source, FolderSource):
        return
    target, root = folder.resolve(), dataset.root.resolve()
    parts = target.relative_to(root).parts if target.is_relative_to(root) else None
    if parts == () or (parts and parts[0] in DATASET_FOLDERS):
        advice = f"give {name}= another one" if name else "choose another folder"
        raise ParameterError(f"The folder {folder} is the dataset's, which is only read: {advice}.")
