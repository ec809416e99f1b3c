"""NSD in a notebook: voxels, trials, noise ceilings and responses as labelled xarray objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self, get_args

import pandas as pd
import xarray as xr

from nsd_prep.core.check import Check
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.folders import user_cache
from nsd_prep.core.parameters import (
    MissingRegions,
    Normalise,
    Preparation,
    SingleTrialImages,
    SpaceName,
    StoredFormat,
    StoredType,
    SurfaceFiles,
    TrainingSplit,
)
from nsd_prep.core.parameters import parameters as run_parameters
from nsd_prep.core.terminal import wrapped
from nsd_prep.dataset.atlases import label_table_of_atlases
from nsd_prep.dataset.coco import with_annotations
from nsd_prep.dataset.design import read_design
from nsd_prep.dataset.experiments import Experiment
from nsd_prep.dataset.image_table import table_of_images
from nsd_prep.dataset.layout import sequence_of_subjects
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.published import PREPARATION_FOLDERS
from nsd_prep.dataset.region_choice import Region, Regions
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.dataset.source import naming_addresses
from nsd_prep.dataset.space import FUNC1PT8MM
from nsd_prep.exports.export import Like
from nsd_prep.pipeline.experiments import experiment_of, write_experiments
from nsd_prep.pipeline.exports import export_subjects
from nsd_prep.pipeline.labelled import labelled_trials, labelled_voxels
from nsd_prep.pipeline.open_subjects import OpenSubjects
from nsd_prep.pipeline.run import Run, plan_run
from nsd_prep.single_trials import open_single_trials
from nsd_prep.single_trials.experiments import ExperimentNormalise, require_normalise
from nsd_prep.single_trials.reliability import VoxelMinima
from nsd_prep.single_trials.subject import SingleTrialOptions
from nsd_prep.single_trials.writer import check_storage

#: Columns of what `print` shows.
_WIDTH: Final = 79


def open_nsd(
    root: str | Path,
    *,
    subjects: Sequence[int] | None = None,
    preparation: Preparation | None = None,
    regions_file: str | Path | None = None,
    cache_dir: str | Path | None = None,
    accept_nsd_terms: bool = False,
    space: SpaceName = FUNC1PT8MM,
    surface_files: SurfaceFiles | None = None,
    missing_regions: MissingRegions = "error",
) -> "NSD":
    """Open a copy of NSD.

    Parameters
    ----------
    root : str or Path
        Folder, or address (``s3://BUCKET[/PREFIX]``, ``https://HOST[/PREFIX]``), of the dataset,
        as `nsd_prep.sources.opening.open_dataset` takes it.
    subjects : sequence of int, optional
        1-based; all of the dataset where none are given. `NSD.responses` are those to the images
        that all of them saw three times. A subject's files are needed only when that subject is
        requested.
    preparation : {"b1", "b2", "b3"}, optional
        Which betas are read, in the official layout; b3 by default.
    regions_file : str or Path, optional
        Regions of your own, as `nsd_prep.dataset.regions.read_regions_file` reads them.
    cache_dir : str or Path, optional
        Where extracted responses are kept; a run of the flow can use the same cache. ``nsd-prep``
        in the user's cache folder (``XDG_CACHE_HOME`` or ``~/.cache``) where none is given.
    accept_nsd_terms : bool
        Accept the terms of NSD, without which its own bucket is not read.
    space : {"func1pt8mm", "func1mm", "fsaverage", "nativesurface"}
        Where responses lie, which decides what a region is: `NSD.regions`.
    surface_files : {"native", "mgh"}, optional
        What betas of fsaverage are taken from; by default native, if those files exist.
    missing_regions : {"error", "skip"}
        Whether a region without a voxel in a subject is an error, or left out where others are
        asked for beside it, with a warning.

    Returns
    -------
    NSD
        So far only ``dataset.json`` has been read.

    Raises
    ------
    MissingFilesError, InputFileError, ParameterError
        As `nsd_prep.pipeline.run.plan_run`.
    OutputError
        No cache is given, and the user has no home folder.
    """
    if root is None or not str(root).strip():
        raise ParameterError("There is no root: give the dataset's folder or address.")
    subjects = None if subjects is None else sequence_of_subjects(subjects)
    if preparation not in (None, *PREPARATION_FOLDERS):
        listed = ", ".join(PREPARATION_FOLDERS)
        raise ParameterError(f"The preparation {preparation} is unknown: give one of {listed}.")
    cache = Path(cache_dir) if cache_dir else user_cache()
    chosen = run_parameters(
        output_dir=cache, cache_dir=cache, betas=preparation, brainscore=False, report=False
    )
    if space not in get_args(SpaceName):
        listed = ", ".join(get_args(SpaceName))
        raise ParameterError(f"The space {space} is unknown: give one of {listed}.")
    chosen |= {"space": space, "surface_files": surface_files, "missing_regions": missing_regions}
    chosen |= {"nsd_root": root, "subjects": subjects, "regions": tuple(BUILT_IN_REGIONS)}
    chosen |= {"regions_file": regions_file, "accept_nsd_terms": accept_nsd_terms}
    return NSD(plan_run(**chosen))


class NSD:
    """A copy of NSD, opened by `open_nsd`: what a run of the flow reads, by the same functions.

    Responses are extracted on first use, and kept in the cache. Subject numbers start at 1. The
    methods raise `nsd_prep.core.errors.ParameterError` if a subject or region is unknown,
    `PreflightError` with all that is wrong with the files, and `ExtractionError` where sessions
    cannot be read.

    Parameters
    ----------
    run : Run
        Dataset, subjects, regions and the folder of the cache.

    Attributes
    ----------
    subjects : tuple of int
        1-based.
    sessions : dict of int to int
        How many sessions each subject has.
    regions : dict of str to RegionDefinition
        The built-in regions, and those of the regions file.
    cache_dir : Path
        Where extracted responses are kept.
    """

    def __init__(self, run: Run) -> None:
        self.subjects = run.subjects
        self.sessions = {subject: run.dataset().sessions[subject] for subject in run.subjects}
        self.cache_dir = run.cache_dir
        self._run = run
        self._opened = OpenSubjects(run)
        self.regions = self._opened.regions

    def __repr__(self) -> str:
        dataset = self._run.dataset()
        described = [dataset.name, dataset.preparation, *self._run.space_facts().values()]
        sessions = [f"{number} of subject {subject}" for subject, number in self.sessions.items()]
        parts = {
            "dataset": ", ".join(described),
            "sessions": f"{', '.join(sessions)}; {dataset.trials_per_session} trials each",
            "regions": ", ".join(self.regions),
            "cache": str(self.cache_dir),
        }
        lines = [wrapped(f"  {name:10}{text}", _WIDTH, hanging=12) for name, text in parts.items()]
        return "\n".join([f"<NSD {self._run.nsd_root}>", *lines])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to a bucket or web server; this has no effect for a folder."""
        self._run.dataset().source.close()

    def atlases(self) -> pd.DataFrame:
        """Return every label of every atlas, by name, and how many sites subjects have of it.

        Returns
        -------
        DataFrame
            As `nsd_prep.dataset.atlases.label_table_of_atlases` gives it.
        """
        return label_table_of_atlases(self._run.dataset(), self.subjects)

    def images(self, *, coco_annotations: str | Path | None = None) -> pd.DataFrame:
        """Return what each image of the dataset is a part of, and when each subject saw it.

        Parameters
        ----------
        coco_annotations : str or Path, optional
            A folder with COCO's ``captions_*.json`` and ``instances_*.json``, for captions and
            categories; it takes some seconds.

        Returns
        -------
        DataFrame
            As `nsd_prep.dataset.image_table.table_of_images` gives it, and with annotations
            `nsd_prep.dataset.coco.with_annotations`.
        """
        dataset = self._run.dataset()
        with naming_addresses(dataset.source):
            images = table_of_images(dataset, read_design(dataset.design_file, dataset.read))
        return with_annotations(images, Path(coco_annotations)) if coco_annotations else images

    def trials(self, subject: int) -> xr.Dataset:
        """Return which image each trial of a subject shows.

        Returns
        -------
        Dataset, dims (trial,)
            The columns of `nsd_prep.dataset.trials.trial_table`, and of the behaviour where
            the dataset has it; ``trial`` is 0-based over all sessions.
        """
        return labelled_trials(self._opened.all_trials_of(subject), subject)

    def voxels(self, subject: int, regions: Regions) -> xr.Dataset:
        """Return the voxels of regions, each once, in the order of the beta files.

        Returns
        -------
        Dataset, dims (voxel,)
            The columns of `nsd_prep.single_trials.voxels.trial_voxels`; those that say where a
            voxel or vertex lies are coordinates. The attributes ``grid`` and ``affine`` of a volume
            are what `nsd_prep.single_trials.maps.brain_map` takes.
        """
        return labelled_voxels(self._opened.load_without_sessions(subject, regions), subject)

    def noise_ceilings(self, subject: int, regions: Regions, n_averaged: int = 3) -> xr.DataArray:
        """Return how much of a voxel's variance a perfect model explains in means of repetitions.

        Returns
        -------
        DataArray of float64, dims (voxel,)
            Percent, 0 where a voxel has no data: `nsd_prep.dataset.noise_ceiling.noise_ceiling`.
            The voxels are those of `voxels`.
        """
        ncsnr = self.voxels(subject, regions)["ncsnr"]
        ceiling = ncsnr.copy(data=noise_ceiling(ncsnr, n_averaged)).rename("noise_ceiling")
        what = "noise ceiling of the mean of n_averaged trials"
        return ceiling.assign_attrs(long_name=what, units="percent", n_averaged=n_averaged)

    def responses(self, subject: int, region: Region) -> xr.DataArray:
        """Return a region's responses to the images that all subjects saw three times.

        Their mean over ``repetition`` is what an assembly of the same subjects holds, bit for bit.

        Returns
        -------
        DataArray of float32, dims (image, repetition, voxel)
            z-scores within the session. On image the index ``nsd_id`` (0-based, ascending) and
            ``is_train``; on image and repetition ``session`` (1-based) and ``trial_in_session``
            (0-based); on voxel the columns of ``voxels.csv``, as
            `nsd_prep.assemblies.assembly.voxel_table`.
        """
        names = self._opened.definitions(region)
        if len(names) != 1:
            raise ParameterError(
                f"Responses are those of a single region, found {', '.join(names) or 'none'}: "
                "call once for each, or use single_trials, which takes several."
            )
        return self._opened.responses(subject, region)

    def single_trials(
        self,
        subject: int,
        regions: Regions,
        *,
        normalise: Normalise = "session",
        images: SingleTrialImages = "all",
        average: bool = False,
        split: TrainingSplit = "shared1000",
        min_ncsnr: float | None = None,
        min_noise_ceiling: float | None = None,
        min_reliability: float | None = None,
    ) -> xr.Dataset:
        """Return all trials of a subject in some regions; values are read when they are used.

        The first call writes ``subj01.nc`` of ``nsd-prep trials`` into the cache, session by
        session; later ones open it. Options are those of
        `nsd_prep.single_trials.subject.SingleTrialOptions`; ``min_ncsnr``, ``min_noise_ceiling``
        and ``min_reliability`` those of `nsd_prep.single_trials.reliability.VoxelMinima`.

        Returns
        -------
        Dataset, dims (trial, voxel) or (image, voxel)
            The variable ``response``, float32, and the columns of `trials` and `voxels` as
            coordinates: what `nsd_prep.single_trials.open_single_trials` gives.
        """
        chosen: dict[str, Any] = {"normalise": normalise, "images": images, "split": split}
        least = {
            "min_ncsnr": min_ncsnr,
            "min_noise_ceiling": min_noise_ceiling,
            "min_reliability": min_reliability,
        }
        Run.checked(**dict(self._run) | chosen | least)
        options = SingleTrialOptions(**chosen, average=average)
        minima = VoxelMinima(min_ncsnr, min_noise_ceiling, min_reliability)
        return open_single_trials(
            self._opened.single_trials_file(subject, regions, options, minima)
        )

    def export(
        self,
        like: Like,
        target: str | Path,
        *,
        subjects: Sequence[int] | None = None,
        min_ncsnr: float | None = None,
        min_noise_ceiling: float | None = None,
        min_reliability: float | None = None,
    ) -> list[Path]:
        """Write responses as the code of a paper reads them.

        Single trials of the regions that the files need are written into the cache first; of a
        dataset in a folder the images are taken too, where the files have some. An interrupted
        export resumes where it stopped.

        Parameters
        ----------
        like : {"mindeye2", "brain-diffuser", "algonauts2023", "deepnsd"}
            Whose files.
        target : str or Path
            A folder, for this export alone; its ``README.md`` says how the files are made.
        subjects : sequence of int, optional
            1-based; by default all subjects that were opened.
        min_ncsnr, min_noise_ceiling, min_reliability : float, optional
            Which voxels are taken, as in `single_trials`.

        Returns
        -------
        list of Path
            All files of the export.
        """
        minima = VoxelMinima(min_ncsnr, min_noise_ceiling, min_reliability)
        return export_subjects(self._opened, like, Path(target), subjects, minima)

    def experiment(
        self,
        experiment: Experiment,
        subject: int,
        regions: Regions,
        *,
        normalise: ExperimentNormalise = "session",
    ) -> xr.Dataset:
        """Return a subject's responses in NSD-imagery or NSD-synthetic.

        Parameters
        ----------
        experiment : {"imagery", "synthetic"}
            The experiment.
        subject : int
            1-based.
        regions
            As in `single_trials`.
        normalise : {"run", "session", "none"}
            z-scores over each run, or over all rows; or percent signal change.

        Returns
        -------
        Dataset, dims (trial, voxel)
            The variable ``response``, float32, and the columns of
            `nsd_prep.dataset.experiments.rows_of_experiment` and
            `nsd_prep.single_trials.experiments.experiment_voxels` as coordinates.
        """
        require_normalise(normalise)
        with naming_addresses(self._run.dataset().source):
            rows = experiment_of(self._opened, experiment, subject, regions)
        return rows.as_dataset(normalise)

    def write_experiment(
        self,
        experiment: Experiment,
        folder: str | Path,
        regions: Regions,
        *,
        subjects: Sequence[int] | None = None,
        normalise: ExperimentNormalise = "session",
        dtype: StoredType = "float32",
        format: StoredFormat = "netcdf",
    ) -> tuple[list[Path], list[Check]]:
        """Write NSD-imagery or NSD-synthetic, a file a subject, and check it.

        Parameters
        ----------
        experiment, regions, normalise
            As in `experiment`.
        folder : str or Path
            Gets ``subj01_imagery.nc``, ``subj01_imagery.csv`` and so on, and
            ``checks_imagery.csv``.
        subjects : sequence of int, optional
            1-based; by default all subjects that were opened.
        dtype, format
            As in `nsd_prep.single_trials.writer.write_rows`.

        Returns
        -------
        files : list of Path
            What was written.
        checks : list of Check
            Of each subject and task: do repetitions agree in each run?
        """
        require_normalise(normalise)
        check_storage(dtype, format)
        with naming_addresses(self._run.dataset().source):
            return write_experiments(
                self._opened,
                experiment,
                Path(folder),
                regions,
                subjects,
                normalise=normalise,
                dtype=dtype,
                format=format,
            )
