"""NSD's two other experiments, NSD-imagery and NSD-synthetic: their files, and what each row is."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.parameters import SurfaceFiles
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.matlab import load_mat
from nsd_prep.dataset.published import DOWNLOAD_AGAIN
from nsd_prep.dataset.space import FSAVERAGE
from nsd_prep.dataset.trials import TRIAL, repetition_of_trial

Experiment = Literal["imagery", "synthetic"]
Task = Literal["vision", "attention", "imagery"]


class ImageryRun(NamedTuple):
    """A run of NSD-imagery: its name, its task, and its set of targets."""

    name: str
    task: Task
    targets: str


#: In the order of the rows. NSD data manual, "NSD-imagery".
IMAGERY_RUNS: Final = tuple(
    ImageryRun(name, cast(Task, task), targets)
    for name, task, targets in (
        ("visA", "vision", "A"),
        ("attA", "attention", "A"),
        ("imgA_1", "imagery", "A"),
        ("visB", "vision", "B"),
        ("attB", "attention", "B"),
        ("imgB_1", "imagery", "B"),
        ("visC", "vision", "C"),
        ("attC", "attention", "C"),
        ("imgC_1", "imagery", "C"),
        ("imgA_2", "imagery", "A"),
        ("imgB_2", "imagery", "B"),
        ("imgC_2", "imagery", "C"),
    )
)
TRIALS_OF_IMAGERY_RUN: Final = 48
#: The parts of a trial of attention, each of which has a row.
EPOCHS: Final = ("cue", "detection")
#: The letters of the targets of each set: bars and crosses, images of NSD, concepts.
TARGETS: Final[Mapping[str, str]] = MappingProxyType({"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"})
#: The images of NSD that are targets of set B, by nsd_id (0-based).
NSD_IDS_OF_TARGETS: Final[Mapping[str, int]] = MappingProxyType(
    {"W": 28752, "K": 30857, "B": 53882, "C": 61178, "D": 65873, "T": 0}
)
#: Runs of NSD-synthetic, rows of each, and images.
SYNTHETIC_RUNS: Final = 8
ROWS_OF_SYNTHETIC_RUN: Final = 93
SYNTHETIC_IMAGES: Final = 284
ROWS: Final[Mapping[Experiment, int]] = MappingProxyType(
    {
        "imagery": sum(
            TRIALS_OF_IMAGERY_RUN * (2 if run.task == "attention" else 1) for run in IMAGERY_RUNS
        ),
        "synthetic": SYNTHETIC_RUNS * ROWS_OF_SYNTHETIC_RUN,
    }
)


def betas_file(session: Path, experiment: Experiment) -> Path:
    """Return the path of an experiment's betas, by that of the main experiment's first session."""
    preparation = session.parent.name.removeprefix("betas_")
    folder = session.parent.with_name(f"nsd{experiment}betas_{preparation}")
    return folder / session.name.replace("betas_session01", f"betas_nsd{experiment}")


def valid_file(dataset: Dataset, subject: int, experiment: Experiment) -> Path:
    """Return the path of the mask of voxels that have data in an experiment."""
    folder = dataset.root / "nsddata" / "ppdata" / f"subj{subject:02d}" / dataset.space
    return folder / f"valid_nsd{experiment}.nii.gz"


def imagery_file(dataset: Dataset, subject: int, run: str) -> Path:
    """Return the path of the trials of a run of NSD-imagery."""
    folder = dataset.root / "nsddata" / "bdata" / "nsdimagery"
    return folder / f"nsdimagery_subj{subject:02d}_{run}.tsv"


def imagery_design_file(dataset: Dataset) -> Path:
    """Return the path of the design matrices of NSD-imagery."""
    folder = dataset.root / "nsddata" / "experiments" / "nsdimagery"
    return folder / "designmatrixGLMsingle.mat"


def synthetic_design_file(dataset: Dataset) -> Path:
    """Return the path of the design of NSD-synthetic."""
    return dataset.root / "nsddata" / "experiments" / "nsdsynthetic" / "nsdsynthetic_expdesign.mat"


def synthetic_images_file(dataset: Dataset) -> Path:
    """Return the path of the table of images of NSD-synthetic."""
    name = "nsdsyntheticimageinformation.csv"
    return synthetic_design_file(dataset).with_name(name)


def require_experiment(dataset: Dataset, subject: int, experiment: Experiment) -> None:
    """Raise MissingFilesError where a dataset has no betas of a subject in an experiment."""
    path = _first_file(dataset, subject, experiment)
    if dataset.layout == "flat" or not dataset.exists(path):
        instead = f"leave out experiment={experiment!r}"
        if dataset.space == FSAVERAGE:
            other: SurfaceFiles = "mgh" if dataset.surface_files == "native" else "native"
            of_other = replace(dataset, surface_files=other)
            if dataset.exists(there := _first_file(of_other, subject, experiment)):
                instead = f"give surface_files={other!r}, since there is {there}"
        raise MissingFilesError(
            f"The dataset {dataset.root} has no NSD-{experiment} of subject {subject}: expected "
            f"{path}; download it, or {instead}."
        )


def _first_file(dataset: Dataset, subject: int, experiment: Experiment) -> Path:
    return betas_file(dataset.session_file(subject, 1, dataset.sides[0]), experiment)


def rows_of_experiment(dataset: Dataset, subject: int, experiment: Experiment) -> pd.DataFrame:
    """Return what each row of an experiment's betas is.

    Parameters
    ----------
    dataset : Dataset
        Where the files are.
    subject : int
        1-based.
    experiment : {"imagery", "synthetic"}
        Which.

    Returns
    -------
    DataFrame
        Index ``trial`` (0-based row of the betas). NSD-imagery, 720 rows of 576 trials, since a
        trial of attention has a row for its cue and one for its detection: run, task (vision,
        attention, imagery), target_set (A, B, C), trial_in_run (0-based), epoch (cue, detection;
        empty outside of attention), condition and cue as the run's file has them, target (what was
        shown: the condition of vision, the cue of attention and imagery), nsd_id (0-based, of
        targets of set B; -1 of others) and repetition (0-based, of a target in a task and epoch).
        NSD-synthetic, 744 rows: run ("1" to "8"), trial_in_run (0-based), image (0-based),
        image_name, image_class, image_subclass, and repetition (0-based).

    Raises
    ------
    MissingFilesError
        A file is not there.
    InputFileError
        A file is not what it should be, or contradicts the design matrices.
    """
    if experiment == "imagery":
        rows = _imagery_rows(dataset, subject)
        path = imagery_design_file(dataset)
        if dataset.exists(path):
            _check_design(path, dataset.read(path), rows)
        return rows
    return _synthetic_rows(dataset)


def _imagery_rows(dataset: Dataset, subject: int) -> pd.DataFrame:
    parts = []
    for run in IMAGERY_RUNS:
        path = imagery_file(dataset, subject, run.name)
        table = _read_run(dataset, path)
        is_vision = run.task == "vision"
        part = pd.DataFrame(
            {
                "run": run.name,
                "task": run.task,
                "target_set": run.targets,
                "trial_in_run": np.arange(TRIALS_OF_IMAGERY_RUN),
                "epoch": "",
                "condition": table["CONDITION"],
                "cue": table["CUE"],
                "target": table["CONDITION" if is_vision else "CUE"],
            }
        )
        strange = part.loc[~part["target"].isin(list(TARGETS[run.targets])), "target"]
        if len(strange):
            raise InputFileError(
                f"{path} has the target {strange.iloc[0]!r} in trial {strange.index[0] + 1}: "
                f"expected one of {', '.join(TARGETS[run.targets])}; {DOWNLOAD_AGAIN}."
            )
        if run.task == "attention":
            part = part.loc[part.index.repeat(len(EPOCHS))]
            part["epoch"] = list(EPOCHS) * TRIALS_OF_IMAGERY_RUN
        parts.append(part)
    rows = pd.concat(parts, ignore_index=True).rename_axis(index=TRIAL)
    rows["nsd_id"] = rows["target"].map(NSD_IDS_OF_TARGETS).fillna(-1).astype(np.int64)
    keys = rows.groupby(["task", "epoch", "target"], sort=False)
    return rows.assign(repetition=keys.cumcount().astype(np.int64))


def _read_run(dataset: Dataset, path: Path) -> pd.DataFrame:
    if not dataset.exists(path):
        raise MissingFilesError(
            f"{path}, which lists the rows of NSD-imagery, is missing: download it."
        )
    content = dataset.read(path)
    columns = ["TRIAL", "CONDITION", "CUE"]
    try:
        table = pd.read_csv(
            io.BytesIO(content), sep="\t", usecols=columns, dtype=str, keep_default_na=False
        )
        trials = table["TRIAL"].astype(float)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"{path} cannot be read ({error}): expected the tab-separated columns "
            f"{', '.join(columns)}; {DOWNLOAD_AGAIN}."
        ) from error
    if trials.tolist() != list(range(1, TRIALS_OF_IMAGERY_RUN + 1)):
        raise InputFileError(
            f"{path} has {len(table)} trials: expected the trials 1 to {TRIALS_OF_IMAGERY_RUN} in "
            f"order; {DOWNLOAD_AGAIN}."
        )
    return table.apply(lambda column: column.str.strip())


def _check_design(path: Path, content: bytes, rows: pd.DataFrame) -> None:
    """Raise where events of the design matrices are not the rows, run by run."""
    for run, events in zip(IMAGERY_RUNS, _events(path, content), strict=True):
        own = rows[rows["run"] == run.name]
        labels = own["target"] + " " + own["epoch"]
        if len(events) != len(own):
            raise InputFileError(
                f"The design {path} has {len(events)} events in the run {run.name}: expected "
                f"{len(own)}, a row each; {DOWNLOAD_AGAIN}."
            )
        pairs = pd.DataFrame({"event": events, "label": labels.to_numpy()}).drop_duplicates()
        if pairs["event"].duplicated().any() or pairs["label"].duplicated().any():
            raise InputFileError(
                f"The design {path} and the trials of the run {run.name} disagree: expected events "
                "of a column to be rows of one target; one of them is of another release, "
                f"{DOWNLOAD_AGAIN}."
            )


def _events(path: Path, content: bytes) -> Iterator[NDArray[np.int64]]:
    """Give for each run the column of each event, in the order of time."""
    try:
        cells = load_mat(content, ["stimulus"])["stimulus"]
        matrices = [_dense(cell) for cell in np.asarray(cells, dtype=object).ravel()]
        if len(matrices) != len(IMAGERY_RUNS):
            raise ValueError(f"{len(matrices)} cells")
    except Exception as error:
        raise InputFileError(
            f"The design {path} cannot be read ({type(error).__name__}: {error}): expected "
            f"{len(IMAGERY_RUNS)} matrices in stimulus; {DOWNLOAD_AGAIN}."
        ) from error
    for matrix in matrices:
        yield np.nonzero(matrix)[1].astype(np.int64)  # by time, then by column


def _dense(cell: Any) -> NDArray[Any]:
    matrix = np.asarray(cell.todense() if hasattr(cell, "todense") else cell)
    if matrix.ndim != 2:
        raise ValueError(f"a cell of the shape {matrix.shape}")
    return matrix


def _synthetic_rows(dataset: Dataset) -> pd.DataFrame:
    path = synthetic_design_file(dataset)
    if not dataset.exists(path):
        raise MissingFilesError(
            f"{path}, which lists the images of NSD-synthetic's rows, is missing: download it."
        )
    n_rows = ROWS["synthetic"]
    try:
        variables = load_mat(dataset.read(path), ["masterordering"])
        ordering = variables["masterordering"].ravel().astype(np.int64)
    except Exception as error:
        raise InputFileError(
            f"The design {path} cannot be read ({type(error).__name__}: {error}): expected "
            f"masterordering in it; {DOWNLOAD_AGAIN}."
        ) from error
    if len(ordering) != n_rows or not np.array_equal(
        np.unique(ordering), np.arange(1, SYNTHETIC_IMAGES + 1)
    ):
        raise InputFileError(
            f"The design {path} has {len(ordering)} trials of {len(np.unique(ordering))} images in "
            f"masterordering: expected {n_rows} of the images 1 to {SYNTHETIC_IMAGES}; "
            f"{DOWNLOAD_AGAIN}."
        )
    image = ordering - 1
    rows = {
        "run": (np.arange(n_rows) // ROWS_OF_SYNTHETIC_RUN + 1).astype(str).astype(object),
        "trial_in_run": np.arange(n_rows) % ROWS_OF_SYNTHETIC_RUN,
        "image": image,
    }
    images = _read_synthetic_images(dataset)
    columns = {name: column.to_numpy()[image] for name, column in images.items()}
    columns["repetition"] = repetition_of_trial(image)
    return pd.DataFrame(rows | columns).rename_axis(index=TRIAL)


def _read_synthetic_images(dataset: Dataset) -> pd.DataFrame:
    """Return name, class and subclass of each image; nothing where the dataset has no table."""
    path = synthetic_images_file(dataset)
    if not dataset.exists(path):
        return pd.DataFrame()
    names = {
        "Image": "image_name",
        "Image class": "image_class",
        "Image subclass": "image_subclass",
    }
    try:
        table = pd.read_csv(io.BytesIO(dataset.read(path)), usecols=list(names), dtype=str)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"{path} cannot be read ({error}): expected the columns {', '.join(names)}; "
            f"{DOWNLOAD_AGAIN}."
        ) from error
    if len(table) != SYNTHETIC_IMAGES:
        raise InputFileError(
            f"{path} has {len(table)} images: expected {SYNTHETIC_IMAGES}; {DOWNLOAD_AGAIN}."
        )
    return table.rename(columns=names)[list(names.values())].fillna("").astype(object)
