"""The parameters of a run, stated once: the flow's signature, its form, the command line's help."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

Preparation = Literal["b1", "b2", "b3"]
#: NSD's names of the spaces that betas come in: two volumes, and two pairs of surfaces.
SpaceName = Literal["func1pt8mm", "func1mm", "fsaverage", "nativesurface"]
#: Where betas of fsaverage come from: the files of the subject's own surface, or of fsaverage.
SurfaceFiles = Literal["native", "mgh"]
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
#: What a form refuses when it is submitted; from Python and the command line a sentence says more.
_SOME_ONCE: Final = {"minItems": 1, "uniqueItems": True}
OptionalSubjects = (
    Annotated[list[Subject], Field(title="Chosen subjects", json_schema_extra=_SOME_ONCE)]
    | Annotated[None, Field(title="All subjects of the dataset")]
)
#: Empty where there are regions of one's own alone.
Regions = Annotated[list[RegionName], Field(json_schema_extra={"uniqueItems": True})]
OutputFolder = Annotated[Path, Field(json_schema_extra={"minLength": 1}), _EMPTY_IS_NONE]
#: A minimum that voxels must have; none where it is not set.
Minimum = Annotated[float, Field(ge=0, title="At least")] | Annotated[None, Field(title="Not set")]
OptionalPreparation = (
    Annotated[Preparation, Field(title="Chosen preparation")]
    | Annotated[None, Field(title="b3, or what a flat dataset holds")]
)
OptionalSurfaceFiles = (
    Annotated[SurfaceFiles, Field(title="Chosen files")]
    | Annotated[None, Field(title="native where these are there, else mgh")]
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
            "regions_file": "Your own regions (file)",
            "betas": "Preparation of the betas",
            "space": "Space: a volume or surfaces",
            "surface_files": "Files that betas of fsaverage come from",
            "synthetic": "Use a synthetic dataset instead of NSD",
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
            "replace": "Replace results made with other options",
            "cache_dir": "Cache folder (default: 'cache' in the output folder)",
            "workers": "Workers",
            "runner": "Runner",
            "dask_address": "Address of a Dask scheduler",
            "keep_voxels": "Region to keep in the cache",
        },
        "Single trials": {
            "normalise": "Single trials: normalisation",
            "images": "Single trials: images",
            "average": "Single trials: average over repetitions",
            "split": "Single trials: training images",
            "split_file": "Single trials: your own split (file)",
            "coco_annotations": "Single trials: COCO's annotations (folder)",
            "min_ncsnr": "Single trials: voxels with at least this ncsnr",
            "min_noise_ceiling": "Single trials: voxels with at least this noise ceiling (percent)",
            "min_reliability": "Single trials: voxels with at least this split-half reliability",
            "dtype": "Single trials: number format",
            "format": "Single trials: file format",
        },
        "Expert": {
            "missing_regions": "Expert: regions without voxels",
            "invalid_voxels": "Expert: voxels without data",
            "seed": "Expert: seed of the split",
            "train_fraction": "Expert: fraction of training images",
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
    regions: Regions = ["V1", "V2", "V4", "IT"],  # noqa: B006 (forms show it)
    regions_file: OptionalPath = None,
    betas: OptionalPreparation = None,
    space: SpaceName = "func1pt8mm",
    surface_files: OptionalSurfaceFiles = None,
    synthetic: bool = False,
    accept_nsd_terms: bool = False,
    output_dir: OutputFolder = Path("nsd-prep-output"),
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
    coco_annotations: OptionalPath = None,
    min_ncsnr: Minimum = None,
    min_noise_ceiling: Minimum = None,
    min_reliability: Minimum = None,
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
        nsd_root: The dataset: a folder on the machine that runs the flow, which contains 'nsddata'
            (official layout) or 'metadata' (flat layout); or an address that contains 'nsddata',
            of which only the parts that are needed are read: s3://natural-scenes-dataset,
            s3://BUCKET/PREFIX or https://HOST/PREFIX.
        subjects: Subjects (1 to 8), in the order of the neuroids; by default, all subjects in the
            dataset. Only images that all of them saw three times are used.
        regions: Built-in regions; each becomes an assembly.
        regions_file: TOML file with your own regions: one table per region, such as [FFA] with
            labels = { floc-faces = [2, 3] }. They are added to the chosen built-in regions; on the
            command line, where none are chosen, they are the only ones.
        betas: Preparation of the betas in the official layout: b1 (betas_assumehrf), b2
            (betas_fithrf) or b3 (betas_fithrf_GLMdenoise_RR); b3 by default.
        space: Where responses lie: in the volume of 1.8 mm (func1pt8mm) or of 1 mm (func1mm), on
            the surface of an average brain (fsaverage), or on each subject's own (nativesurface).
            What a region is depends on it: on fsaverage V1 to V4 are labels of an atlas.
        surface_files: Source of betas on fsaverage: the files of the subjects' own surfaces, of
            which only the requested vertices are read (native), or those of fsaverage, which hold
            the published values and are read whole (mgh). By default, native if these files
            exist, otherwise mgh.
        synthetic: Use a small synthetic dataset with NSD's formats and simulated responses. It is
            written beside the output folder if it is not there yet.
        accept_nsd_terms: Accept the terms of the Natural Scenes Dataset, which is required to read
            from its own bucket. Setting NSD_ACCEPT_TERMS=1 in the environment does the same.
        output_dir: Folder for assemblies, tables and the manifest. A run replaces files that it
            writes again and keeps results of other regions and subjects; if the folder holds
            results made with different options, it stops before computing anything.
        assemblies: Make assemblies; without them, only single trials are written.
        brainscore: Make the train and test assemblies and stimulus sets that are packaged for
            Brain-Score.
        report: Write the report: figures, tables and all checks on one page.
        single_trials: Write all trials of each subject (trials/subj01.nc), with a table of their
            images, for training encoding and decoding models.
        features: netCDF file with image features (images by features, with a coordinate nsd_id or
            stimulus_id), for the encoding baseline in the report.
        check: Only check the inputs: list all problems, or what a run would do, which files it
            would replace and which would stay.
        refresh: Ignore the cache and recompute everything.
        replace: Accept results made with different options in the output folder, and remove them
            at the end of the run, so that the folder holds only what this run has made.
        cache_dir: Folder where extracted responses are kept for later runs; by default, 'cache' in
            the output folder.
        workers: How many sessions (with processes and Dask, chunks of sessions) are processed at
            the same time.
        runner: Where sessions are processed: in threads of this process, each with a process of its
            own where many betas are read from files; in processes of Prefect; or on a Dask cluster.
            The latter two need a Prefect server that they can reach.
        dask_address: Scheduler of a running Dask cluster, such as tcp://10.0.0.1:8786; by default,
            a cluster is started on this machine.
        keep_voxels: Built-in region, such as nsdgeneral, whose trials are kept in the cache for
            all sessions of the run. Later runs take any region inside it from there, without
            reading these sessions again.
        normalise: Single trials: z-scores over all trials of the session, none (percent signal
            change), or z-scores with the mean and SD of the training images' trials.
        images: Single trials: trials of all images, of shared images, or of images that only this
            subject saw.
        average: Single trials: average over repetitions, so that each image has one row.
        split: Single trials: the split whose training images train-only uses.
        split_file: CSV file with your own split, used instead of split: columns nsd_id (0-based)
            and split (train, test or unused). It becomes the column split_file of the trials;
            images that are not listed are unused.
        coco_annotations: Folder with COCO's annotations of 2017 (captions_train2017.json,
            instances_train2017.json and so on), from which the table of images (images.csv,
            written with single trials) gets captions and categories, with the share of each
            object's area that the crop keeps.
        min_ncsnr: Single trials: keep only voxels whose ncsnr is at least this.
        min_noise_ceiling: Single trials: keep only voxels whose noise ceiling, of means of three
            trials, is at least this many percent.
        min_reliability: Single trials: keep only voxels whose split-half reliability (the
            correlation between first and second presentations of images, with the Spearman-Brown
            correction) is at least this. Takes one more pass over the sessions.
        dtype: Single trials: number format; float16 is available for Zarr only.
        format: Single trials: netCDF-4, or Zarr (requires zarr and tensorstore).
        missing_regions: If a subject has no voxels of a region: stop with an error, or skip the
            region for that subject. Many category-selective regions are not found in everyone.
        invalid_voxels: Keep voxels without data in some session, as in the published data (their
            responses there are 0), or drop them.
        seed: Seed of the split into train and test images.
        train_fraction: Fraction of the images used for training.
        zscore_images: Images over which the train and test assemblies are z-scored again: all, as
            in the published data, or training images only.
        crossnobis: Add cross-validated distances between images to the report; their expected value
            is 0 for images that evoke the same response, however strong the noise.
        suffix: Suffix of the train and test files' names, such as _8subj.

    Returns
    -------
        The parameters by name.
    """
    return dict(locals())


def with_own_regions_alone(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters in which a file of regions stands for the default regions.

    Where somebody chose these, and forms always do, regions of the file are added to them.
    """
    if chosen.get("regions_file"):
        return {"regions": [], **chosen}
    return dict(chosen)
