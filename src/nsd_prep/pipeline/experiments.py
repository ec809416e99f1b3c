"""Subjects' rows of NSD-imagery or NSD-synthetic: read, given as a dataset, written, checked."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep import __version__
from nsd_prep.checks.experiment_runs import check_experiment
from nsd_prep.checks.registry import as_table
from nsd_prep.core.atomic import write_table
from nsd_prep.core.check import Check, of_vertices
from nsd_prep.core.digests import read_table
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import StoredFormat, StoredType
from nsd_prep.core.progress import Stages
from nsd_prep.core.tables import variables
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.experiments import (
    ROWS,
    Experiment,
    betas_file,
    require_experiment,
    rows_of_experiment,
    valid_file,
)
from nsd_prep.dataset.region_choice import Regions
from nsd_prep.dataset.volumes import read_volume
from nsd_prep.extraction.sessions import read_files
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.loading import check_space
from nsd_prep.pipeline.locks import only_run_in
from nsd_prep.pipeline.open_subjects import OpenSubjects
from nsd_prep.pipeline.run import refuse_dataset
from nsd_prep.single_trials.experiments import (
    ExperimentNormalise,
    experiment_attributes,
    experiment_voxels,
    normalised_rows,
    require_own_table,
    write_experiment,
)
from nsd_prep.single_trials.voxels import trial_voxels
from nsd_prep.single_trials.writer import RESPONSE, description_of_responses


@dataclass(frozen=True)
class ExperimentRows:
    """The rows of an experiment of a subject (1-based).

    `values` are as stored, (n_voxels, n_rows); `rows` as
    `nsd_prep.dataset.experiments.rows_of_experiment`, `voxels` as
    `nsd_prep.single_trials.experiments.experiment_voxels`.
    """

    experiment: Experiment
    subject: int
    values: Betas
    rows: pd.DataFrame
    voxels: pd.DataFrame
    attributes: dict[str, Any]
    is_surface: bool

    def responses(self, normalise: ExperimentNormalise) -> NDArray[np.float32]:
        """Return normalised responses, (n_rows, n_voxels)."""
        run = self.rows["run"].to_numpy()
        return normalised_rows(self.values, run, normalise, is_surface=self.is_surface)

    def as_dataset(self, normalise: ExperimentNormalise) -> xr.Dataset:
        """Return the variable ``response`` with rows and voxels as coordinates."""
        recorded = experiment_attributes(self.subject, self.experiment, normalise)
        described = description_of_responses(recorded)
        responses = {RESPONSE: (("trial", "voxel"), self.responses(normalise), described)}
        coordinates = variables(self.rows, self.voxels)
        return xr.Dataset(responses, coordinates, recorded | self.attributes)

    def write(
        self,
        folder: Path,
        *,
        normalise: ExperimentNormalise,
        dtype: StoredType,
        format: StoredFormat,
    ) -> tuple[Path, Path]:
        """Write responses and the table of the rows into a folder."""
        return write_experiment(
            folder,
            self.subject,
            self.experiment,
            self.values,
            self.rows,
            self.voxels,
            self.attributes,
            normalise=normalise,
            is_surface=self.is_surface,
            dtype=dtype,
            format=format,
        )

    def check(self) -> list[Check]:
        """Check that repetitions agree in each run."""
        return check_experiment(
            f"subj{self.subject:02d}",
            self.experiment,
            self.responses("session"),
            self.rows,
            self.voxels["ncsnr_core"].to_numpy(),
        )


def read_experiment(inputs: Inputs, subject: int, experiment: Experiment) -> ExperimentRows:
    """Read a subject's rows of an experiment, in the regions that were loaded."""
    dataset, selection = inputs.dataset, inputs.masks[subject].selection
    voxels = trial_voxels(
        {name: sites for name, sites in selection.regions.items() if len(sites)},
        selection.space,
        inputs.noise_ceilings[subject].ncsnr.values,
    )
    sites = selection.union()
    files = tuple(
        replace(file, path=betas_file(file.path, experiment))
        for file in inputs.beta_files(subject, 1)
    )
    dataset.source.identities([file.path for file in files])
    for file in files:
        dataset.source.check_session(file.path, file.shape, ROWS[experiment])
    values = read_files(dataset.source, files, sites, ROWS[experiment])
    rows = rows_of_experiment(dataset, subject, experiment)
    is_valid = None
    if not dataset.is_surface and dataset.exists(mask := valid_file(dataset, subject, experiment)):
        volume = read_volume(mask, dataset.read)
        check_space(subject, str(mask), volume, selection)
        is_valid = volume.values.ravel()[sites] > 0
    attributes = {
        "software": f"nsd-prep {__version__}",
        "dataset": dataset.name,
        "preparation": files[0].path.parent.name,
        **inputs.design,
        **dataset.origin,
        **selection.space.attributes(),
    }
    columns = experiment_voxels(voxels, values, rows, is_valid)
    return ExperimentRows(
        experiment, subject, values, rows, columns, attributes, dataset.is_surface
    )


def experiment_of(
    opened: OpenSubjects, experiment: Experiment, subject: int, regions: Regions
) -> ExperimentRows:
    """Return the rows of an open subject in some regions."""
    _require_known(experiment)
    _require(opened, experiment, [subject])
    return read_experiment(opened.load_without_sessions(subject, regions), subject, experiment)


def write_experiments(
    opened: OpenSubjects,
    experiment: Experiment,
    folder: Path,
    regions: Regions,
    subjects: Sequence[int] | None,
    *,
    normalise: ExperimentNormalise,
    dtype: StoredType,
    format: StoredFormat,
) -> tuple[list[Path], list[Check]]:
    """Write the rows of subjects, all that are open where none are given, and check them.

    Checks of other subjects, which were written before, stay in the table.
    """
    _require_known(experiment)
    chosen = opened.chosen(subjects)
    refuse_dataset(folder, opened.run.dataset())
    _require(opened, experiment, chosen)
    table = folder / f"checks_{experiment}.csv"
    files: list[Path] = []
    checks: list[Check] = []
    with (
        only_run_in(folder),
        Stages().stage(f"writing NSD-{experiment}", len(chosen)) as stage,
    ):
        earlier = _checks_of_others(table, chosen)
        for subject in chosen:  # all of them, before anything is read
            require_own_table(folder, subject, experiment)
        for subject in chosen:
            rows = experiment_of(opened, experiment, subject, regions)
            files += rows.write(folder, normalise=normalise, dtype=dtype, format=format)
            checks += rows.check()
            stage.advance()
        if opened.run.dataset().is_surface:
            checks = [of_vertices(check) for check in checks]
        all_checks = pd.concat([earlier, as_table(checks).astype(object)])
        write_table(table, all_checks.sort_values("subject", kind="stable"))
    return [*files, table], checks


def _checks_of_others(table: Path, subjects: Sequence[int]) -> pd.DataFrame:
    """Return the rows, as text, of a table of checks that are not of some subjects (1-based)."""
    if not table.exists():
        return as_table([]).astype(object)
    try:
        earlier = read_table(table, dtype=str, keep_default_na=False)
    except ValueError:  # pandas: nothing, or no table
        earlier = pd.DataFrame()
    if list(earlier.columns) != list(as_table([]).columns):
        raise ParameterError(
            f"{table} is not a table of checks: move it away, or choose another folder."
        )
    return earlier[~earlier["subject"].isin([f"subj{subject:02d}" for subject in subjects])]


def _require_known(experiment: str) -> None:
    """Raise a ParameterError where there is no such experiment."""
    known = get_args(Experiment)
    if experiment not in known:
        near = difflib.get_close_matches(str(experiment), known, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ParameterError(
            f"There is no experiment {experiment!r}: give one of {', '.join(known)}.{hint}"
        )


def _require(opened: OpenSubjects, experiment: Experiment, subjects: Sequence[int]) -> None:
    for subject in subjects:
        opened.require([subject])
        require_experiment(opened.run.dataset(), subject, experiment)
