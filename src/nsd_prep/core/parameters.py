"""The parameters of a run, stated once: the flow's signature, its form, the command line's help."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

Preparation = Literal["b1", "b2", "b3"]
#: The names of `nsd_prep.dataset.regions.BUILT_IN_REGIONS`.
RegionName = Literal[
    "V1",
    "V2",
    "V3",
    "V4",
    "IT",
    "IT-glasser",
    "nsdgeneral",
    "early",
    "midventral",
    "midlateral",
    "midparietal",
    "ventral",
    "lateral",
    "parietal",
]
Subject = Literal[1, 2, 3, 4, 5, 6, 7, 8]
InvalidVoxels = Literal["keep", "drop"]
MissingRegions = Literal["error", "skip"]
ZScoreImages = Literal["all", "train"]
Runner = Literal["threads", "processes", "dask"]
Normalise = Literal["session", "none", "train-only"]
SingleTrialImages = Literal["all", "shared", "unique"]
TrainingSplit = Literal["shared1000", "shared1000_37", "algonauts2023", "shared515", "nsd_prep"]
StoredType = Literal["float32", "float16", "int16"]
StoredFormat = Literal["netcdf", "zarr"]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Workers = Annotated[int, Field(ge=1)]
#: Part of file names, which may have 255 bytes.
Suffix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$", max_length=100)]
#: A field that a form sends empty is not set: Path("") would be the current folder.
_EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)
#: The title is what a form shows for a choice.
_Unset = Annotated[None, Field(title="Not set")]
OptionalPath = Annotated[Annotated[Path, Field(title="Path")] | _Unset, _EMPTY_IS_NONE]
OptionalText = Annotated[Annotated[str, Field(title="Text")] | _Unset, _EMPTY_IS_NONE]
OptionalRegion = Annotated[Annotated[RegionName, Field(title="Region")] | _Unset, _EMPTY_IS_NONE]
OptionalSubjects = (
    Annotated[list[Subject], Field(title="Chosen subjects")]
    | Annotated[None, Field(title="All subjects of the dataset")]
)
OptionalPreparation = (
    Annotated[Preparation, Field(title="Chosen preparation")]
    | Annotated[None, Field(title="b3, or what a flat dataset holds")]
)
#: A folder, as text: an address would not survive as a Path. The schema of forms refuses the empty
#: text; here it is the same as None.
Root = Annotated[
    str | None,
    BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value or None),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "title": "Folder or address"},
                {"type": "null", "title": "Not set"},
            ]
        }
    ),
]
#: The parameters with their titles, in the order in which people need them, for help and forms.
GROUPS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "Input": {
            "nsd_root": "NSD: folder or address",
            "subjects": "Subjects",
            "regions": "Regions",
            "regions_file": "Regions of your own (file)",
            "betas": "Preparation of the betas",
            "synthetic": "Synthetic dataset in place of NSD",
            "accept_nsd_terms": "Accept NSD's terms (for its bucket)",
        },
        "What to make": {
            "output_dir": "Output folder",
            "assemblies": "Make assemblies",
            "brainscore": "Make files for Brain-Score",
            "report": "Write the report",
            "single_trials": "Write single trials",
            "features": "Features for the encoding baseline (file)",
        },
        "How to run": {
            "check": "Check the inputs only",
            "refresh": "Recompute everything",
            "replace": "Replace results of other options",
            "cache_dir": "Cache folder ('cache' in the output folder where not set)",
            "workers": "Workers",
            "runner": "Runner",
            "dask_address": "Address of a Dask scheduler",
            "keep_voxels": "Region whose voxels the cache keeps",
        },
        "Single trials": {
            "normalise": "Single trials: normalisation",
            "images": "Single trials: images",
            "average": "Single trials: average over repetitions",
            "split": "Single trials: training images",
            "split_file": "Single trials: a split of your own (file)",
            "dtype": "Single trials: number format",
            "format": "Single trials: file format",
        },
        "Expert": {
            "missing_regions": "Expert: regions without voxels",
            "invalid_voxels": "Expert: voxels without data",
            "seed": "Expert: seed of the split",
            "train_fraction": "Expert: share of training images",
            "zscore_images": "Expert: images of the second z-score",
            "crossnobis": "Expert: cross-validated distances",
            "suffix": "Expert: suffix of file names",
        },
    }
)
TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {name: title for titles in GROUPS.values() for name, title in titles.items()}
)


def parameters(
    *,
    nsd_root: Root = None,
    subjects: OptionalSubjects = None,
    regions: list[RegionName] = ["V1", "V2", "V4", "IT"],  # noqa: B006 (forms show it)
    regions_file: OptionalPath = None,
    betas: OptionalPreparation = None,
    synthetic: bool = False,
    accept_nsd_terms: bool = False,
    output_dir: Annotated[Path, _EMPTY_IS_NONE] = Path("nsd-prep-output"),
    assemblies: bool = True,
    brainscore: bool = True,
    report: bool = True,
    single_trials: bool = False,
    features: OptionalPath = None,
    check: bool = False,
    refresh: bool = False,
    replace: bool = False,
    cache_dir: OptionalPath = None,
    workers: Workers = 2,
    runner: Runner = "threads",
    dask_address: OptionalText = None,
    keep_voxels: OptionalRegion = None,
    normalise: Normalise = "session",
    images: SingleTrialImages = "all",
    average: bool = False,
    split: TrainingSplit = "shared1000",
    split_file: OptionalPath = None,
    dtype: StoredType = "float32",
    format: StoredFormat = "netcdf",
    missing_regions: MissingRegions = "error",
    invalid_voxels: InvalidVoxels = "keep",
    seed: Seed = 42,
    train_fraction: Fraction = 0.8,
    zscore_images: ZScoreImages = "all",
    crossnobis: bool = False,
    suffix: Suffix = "",
) -> dict[str, Any]:
    """Turn a copy of the Natural Scenes Dataset into validated neural assemblies.

    Each region becomes an assembly: responses to the images that all subjects saw three times,
    z-scored within the session and averaged, with each voxel's noise ceiling. A run that was
    interrupted resumes where it stopped when the same command is given again.

    Args:
        nsd_root: Folder of the dataset, on the machine that runs the flow: it holds 'nsddata'
            (official layout) or 'metadata' (flat layout). Or an address that holds 'nsddata', of
            which only what is needed is read: s3://natural-scenes-dataset, s3://BUCKET/PREFIX,
            https://HOST/PREFIX.
        subjects: Subjects (1 to 8), in the order of the neuroids; all of the dataset where none
            is chosen. The images are those that all of them saw three times.
        regions: Built-in regions; each becomes an assembly.
        regions_file: TOML file with regions of your own, made beside the built-in ones: a table
            for each, such as [FFA] with labels = { floc-faces = [2, 3] }.
        betas: Preparation of the betas in the official layout: b1 (betas_assumehrf), b2
            (betas_fithrf) or b3 (betas_fithrf_GLMdenoise_RR), which is read where none is chosen.
        synthetic: Use a small synthetic NSD, written beside the output folder where it is not
            there yet, in place of a dataset: NSD's formats, invented responses.
        accept_nsd_terms: Accept the terms of the Natural Scenes Dataset, without which its own
            bucket is not read; NSD_ACCEPT_TERMS=1 in the environment does the same.
        output_dir: Folder that the assemblies, tables and the manifest are written to. A run
            replaces what it makes again; results of other regions and subjects stay, and where
            what is there was made with other options the run stops before it computes.
        assemblies: Make the assemblies; without them only single trials are made.
        brainscore: Make the train and test assemblies and stimulus sets that Brain-Score packages.
        report: Write the report: figures, tables and every check on one page.
        single_trials: Write all trials of each subject (trials/subj01.nc), with a table of the
            images they show: what encoding and decoding models are trained on.
        features: netCDF file with features of the images (images by features, with a coordinate
            nsd_id or stimulus_id), for the encoding baseline in the report.
        check: Only look at the inputs: list all that is wrong, or what a run would do, and
            which files of earlier runs would be replaced and which would stay.
        refresh: Recompute everything, whatever the cache holds.
        replace: Make the output folder this run's alone: results of other options are no reason
            to stop, and what earlier runs made there and this one does not is removed at its end.
        cache_dir: Folder for extracted responses, used by later runs; 'cache' in the output
            folder where none is given.
        workers: Sessions, or with processes and Dask chunks of sessions, worked on at once.
        runner: What works on sessions: threads of this process, processes, or Dask. Processes and
            Dask need a Prefect server that they can reach.
        dask_address: Scheduler of a running Dask cluster, such as tcp://10.0.0.1:8786; a cluster
            on this machine is started where none is given.
        keep_voxels: Built-in region, such as nsdgeneral, of which the cache keeps all trials of
            the run's sessions: later runs take every region inside it from there, and read these
            sessions no more, whether from a folder or an address.
        normalise: Of single trials: z-scores over the session's trials, none (percent signal
            change), or z-scores with mean and SD from the trials of training images alone.
        images: Of single trials: those of all images, of the shared, or of the subject's own.
        average: Of single trials: one row an image, averaged over its repetitions.
        split: Whose training images count for train-only.
        split_file: CSV file with a split of your own, in place of split: columns nsd_id (0-based)
            and split (train, test or unused). It becomes the column split_file of the trials, and
            images that it does not list are unused.
        dtype: How single trials are stored; float16 in Zarr alone.
        format: Of the files of single trials: netCDF-4, or Zarr (needs zarr and tensorstore).
        missing_regions: Whether a region without any voxel in a subject is an error, or skipped:
            the subject is then without it. Many regions of category localisers are not found in
            everybody.
        invalid_voxels: Whether voxels without data in some session are kept, as in the published
            data (their responses there are 0), or dropped.
        seed: Seed of the split into train and test images.
        train_fraction: Share of the images that are for training.
        zscore_images: Images over which the train and test assemblies are z-scored once more: all,
            as in the published data, or those for training alone.
        crossnobis: Show cross-validated distances between images in the report too: they are 0 on
            average where two images evoke the same, whatever the noise.
        suffix: What stands before the extension of the train and test files, such as _8subj.

    Returns
    -------
        The parameters by name.
    """
    return dict(locals())
