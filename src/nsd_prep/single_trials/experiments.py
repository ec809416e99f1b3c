"""The rows of NSD-imagery and NSD-synthetic: normalised, with their voxels, as a file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.atomic import write_text
from nsd_prep.core.coordinates import MEMBERSHIP
from nsd_prep.core.errors import NSDPrepError, ParameterError
from nsd_prep.core.parameters import StoredFormat, StoredType
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.experiments import Experiment
from nsd_prep.dataset.trials import TRIAL
from nsd_prep.single_trials.normalise import INT16_STEP, normalised
from nsd_prep.single_trials.reading import open_single_trials
from nsd_prep.single_trials.writer import FORMATS, write_rows

#: z-scores over each run, or over all rows; or percent signal change.
ExperimentNormalise = Literal["run", "session", "none"]
UNITS: Final[Mapping[ExperimentNormalise, str]] = {
    "run": "standard deviations of the run's rows",
    "session": "standard deviations of all rows",
    "none": "percent signal change",
}

#: Attributes in which two files differ that show different rows.
_WHAT_ROWS_SHOW: Final = (
    "experiment",
    "subject",
    "dataset",
    "preparation",
    "space",
    "surface_files",
    "normalisation",
    "design",
)


def require_normalise(normalise: str) -> None:
    """Raise a ParameterError where an experiment is not normalised so."""
    if normalise not in UNITS:
        raise ParameterError(
            f"The rows of this experiment cannot be normalised by {normalise!r}: give one of "
            f"{', '.join(UNITS)} with normalise=."
        )


def normalised_rows(
    values: Betas, run: NDArray[Any], normalise: ExperimentNormalise, *, is_surface: bool = False
) -> NDArray[np.float32]:
    """Normalise the rows of an experiment.

    Parameters
    ----------
    values : ndarray, shape (n_voxels, n_rows)
        As stored: int16, 300 times the percent signal change; or float32, percent signal change,
        NaN where there are no data.
    run : ndarray, shape (n_rows,)
        The run of each row.
    normalise : {"run", "session", "none"}
        z-scores over the rows of each run or over all rows, or percent signal change, as
        `nsd_prep.single_trials.normalise.normalised` takes them over a session.
    is_surface : bool
        Whether they are of vertices.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_voxels)
        z-scores are 0 where a voxel is constant, and values where it has no data.
    """
    if normalise != "run":
        return np.ascontiguousarray(normalised(values, normalise, is_surface=is_surface).T)
    responses = np.empty(values.shape[::-1], dtype=np.float32)
    for name in pd.unique(run):
        rows = np.flatnonzero(run == name)
        own = np.ascontiguousarray(values[:, rows])
        responses[rows] = normalised(own, "session", is_surface=is_surface).T
    return responses


def pooled_ncsnr(values: Betas, image: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ncsnr of voxels whose images were seen unequally often.

    The noise variance is the images' variances over their repetitions (N - 1), pooled by their
    degrees of freedom; the total variance is that over all rows (N - 1); the signal's is what the
    noise leaves of it.

    Parameters
    ----------
    values : ndarray, shape (n_voxels, n_rows)
        As stored, or any multiple.
    image : ndarray of int64, shape (n_rows,)
        The image of each row.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        NaN where a voxel is constant, or has no data.
    """
    responses = values.T.astype(np.float64)
    row, times = np.unique(image, return_inverse=True, return_counts=True)[1:]
    sums = np.zeros((len(times), responses.shape[1]))
    np.add.at(sums, row, responses)
    deviations = responses - (sums / times[:, np.newaxis])[row]
    noise = np.square(deviations).sum(axis=0) / (times - 1).sum()
    total = responses.var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(noise > 0, np.sqrt(np.maximum(0, total - noise)) / np.sqrt(noise), np.nan)


def pooled_noise_ceiling(
    ncsnr: NDArray[np.float64], image: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the noise ceiling (percent) of means over the repetitions that each image has.

    100 s^2 / (s^2 + m), with m the mean over images of one over their repetitions; 0 where ncsnr
    is NaN.
    """
    times = np.unique(image, return_counts=True)[1]
    signal = np.square(np.nan_to_num(ncsnr, nan=0.0))
    return 100 * signal / (signal + np.mean(1 / times))


def experiment_voxels(
    voxels: pd.DataFrame,
    values: Betas,
    rows: pd.DataFrame,
    is_valid: NDArray[np.bool_] | None,
) -> pd.DataFrame:
    """Return the table of an experiment's voxels.

    Parameters
    ----------
    voxels : DataFrame
        As `nsd_prep.single_trials.voxels.trial_voxels`.
    values : ndarray, shape (n_voxels, n_rows)
        As stored.
    rows : DataFrame
        As `nsd_prep.dataset.experiments.rows_of_experiment`.
    is_valid : ndarray of bool, shape (n_voxels,), optional
        Which have data in the experiment.

    Returns
    -------
    DataFrame
        Where the voxels lie and in which regions; ncsnr_core, that of NSD's main experiment;
        is_valid where it is known; and of NSD-synthetic ncsnr and noise_ceiling, of the experiment
        itself.
    """
    where = [name for name in voxels if not name.startswith(("ncsnr", "noise_ceiling", "in_"))]
    table = voxels[where].assign(ncsnr_core=voxels["ncsnr"])
    if is_valid is not None:
        table["is_valid"] = is_valid
    if "image" in rows:
        image = rows["image"].to_numpy()
        ncsnr = pooled_ncsnr(values, image)
        table["ncsnr"] = ncsnr.astype(np.float32)
        table["noise_ceiling"] = pooled_noise_ceiling(ncsnr, image)
    return table.join(voxels[[name for name in voxels if name.startswith("in_")]])


def experiment_attributes(
    subject: int, experiment: Experiment, normalise: ExperimentNormalise
) -> dict[str, Any]:
    """Return what a file records of a subject (1-based), an experiment and its normalisation."""
    return {
        "subject": subject,
        "experiment": f"NSD-{experiment}",
        "normalisation": normalise,
        "units": UNITS[normalise],
    }


def write_experiment(
    folder: Path,
    subject: int,
    experiment: Experiment,
    values: Betas,
    rows: pd.DataFrame,
    voxels: pd.DataFrame,
    attributes: Mapping[str, Any],
    *,
    normalise: ExperimentNormalise = "session",
    is_surface: bool = False,
    dtype: StoredType = "float32",
    format: StoredFormat = "netcdf",
) -> tuple[Path, Path]:
    """Write a subject's rows of an experiment, and the table of the rows.

    Parameters
    ----------
    folder : Path
        Where the files go.
    subject : int
        1-based.
    experiment : {"imagery", "synthetic"}
        Which.
    values : ndarray, shape (n_voxels, n_rows)
        As stored.
    rows, voxels : DataFrame
        As `nsd_prep.dataset.experiments.rows_of_experiment` and `experiment_voxels`.
    attributes : mapping
        What else determines the data, and `nsd_prep.dataset.space.Space.attributes`.
    normalise, is_surface
        As in `normalised_rows`.
    dtype, format
        As in `nsd_prep.single_trials.writer.write_rows`.

    Returns
    -------
    responses, table : Path
        ``subj01_imagery.nc`` or ``.zarr``, and ``subj01_imagery.csv``.

    Raises
    ------
    ParameterError
        A file of that name shows something else, which would be lost; or there are files of other
        subjects from another dataset, or made with other options.
    """
    path = folder / f"subj{subject:02d}_{experiment}{FORMATS[format]}"
    recorded = experiment_attributes(subject, experiment, normalise) | dict(attributes)
    _check_folder(path, experiment, recorded, voxels)
    responses = normalised_rows(values, rows["run"].to_numpy(), normalise, is_surface=is_surface)
    write_rows(
        path,
        [responses],
        rows,
        voxels,
        dtype=dtype,
        format=format,
        attributes=recorded,
        step=INT16_STEP["none" if normalise == "none" else "session"],
    )
    table = path.with_suffix(".csv")
    named = rows.assign(subject=f"subj{subject:02d}")[["subject", *rows.columns]]
    write_text(table, named.to_csv(lineterminator="\n"))
    return path, table


def require_own_table(folder: Path, subject: int, experiment: Experiment) -> None:
    """Raise a ParameterError where somebody else's file stands in the place of a table of rows."""
    table = folder / f"subj{subject:02d}_{experiment}.csv"
    if not os.path.lexists(table):
        return
    try:
        with table.open(encoding="utf-8") as file:
            is_own = file.readline().startswith(f"{TRIAL},subject,run,")
    except (OSError, ValueError):
        is_own = False
    if not is_own:
        raise ParameterError(
            f"{table} is no table of the rows of an experiment: move it away, or choose another "
            "folder."
        )


def _check_folder(
    path: Path, experiment: Experiment, attributes: Mapping[str, Any], voxels: pd.DataFrame
) -> None:
    """Raise where a file would be lost, or where other files do not belong beside it."""
    if path.exists():
        found, columns = _read_facts(path)
        _require_alike(path, found, attributes)
        regions = {name for name in columns if name.startswith(MEMBERSHIP)}
        if lost := sorted(name.removeprefix(MEMBERSHIP) for name in regions - set(voxels)):
            raise ParameterError(
                f"{path} was written with other options (regions there and not in this run: "
                f"{', '.join(lost)}): choose another folder, or move it away."
            )
    for suffix in FORMATS.values():
        for other in sorted(path.parent.glob(f"subj[0-9][0-9]_{experiment}{suffix}")):
            if other != path:
                is_of_another = other.stem != path.stem
                _require_alike(other, _read_facts(other)[0], attributes, other=is_of_another)


def _read_facts(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Return the attributes of a file of rows, and the names of its coordinates."""
    try:
        with open_single_trials(path) as trials:
            return dict(trials.attrs), set(map(str, trials.coords))
    except (NSDPrepError, OSError) as error:
        raise ParameterError(
            f"{path} is there, and holds no rows of an experiment ({error}): move it away, or "
            "choose another folder."
        ) from error


def _require_alike(
    path: Path, found: Mapping[str, Any], attributes: Mapping[str, Any], *, other: bool = False
) -> None:
    """Raise where a file shows other rows than a run; one of another subject has other ones."""
    differences = [
        f"{name}: {found.get(name)} there, {attributes.get(name)} in this run"
        for name in _WHAT_ROWS_SHOW
        if found.get(name) != attributes.get(name)
        # Versions up to 0.4 did not record the design.
        and not (name == "design" and name not in found)
        and not (name == "subject" and other)
    ]
    if differences:
        raise ParameterError(
            f"{path} was written with other options, or from other data "
            f"({'; '.join(differences)}): choose another folder, or move it away."
        )
