"""Do rows of NSD-imagery and NSD-synthetic show what they are said to? Repetitions tell."""

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.check import Check, Kind, Threshold, Verdict, number_text
from nsd_prep.core.errors import InputFileError

#: Voxels of the highest ncsnr in the main experiment, which are compared.
_VOXELS: Final = 1000
#: Random exchanges of the rows of a run that give its error.
_EXCHANGES: Final = 200
#: Standard errors above 0 that are surely above chance; and of the other runs, that tell.
SURELY_ABOVE: Final = 4.0
#: Share of the other runs' agreement below which a run surely is, that shows something else.
SHARE_OF_MISPLACED: Final = 0.5

REPETITIONS_BY_RUN: Final = Kind(
    name="repetitions agree, run by run",
    scope="subject, task",
    measures="mean r over voxels of rows that show the same, less that of rows that do not, of "
    "each run with the others, or with itself where no other run shows the same; the least of all",
    draws=("trials",),
    conditions={
        "failed": f"a run below {SHARE_OF_MISPLACED:g} of the others' median by {SURELY_ABOVE:g} "
        f"standard errors, and not above 0 by as many, while the others are",
        "not decidable": f"some run not above 0 by {SURELY_ABOVE:g} standard errors",
        "passed": "every run above 0 by as many",
    },
    value="{found}",
    expectation="repetitions in every run are more alike than rows of different targets or images",
    lower=0.0,
    unit="r",
    meanings={
        "passed": "Rows of the same target or image are alike in every run.",
        "not decidable": "The signal is too weak to tell, as it often is of imagery.",
        "exchanged": "These runs show something other than their files say: runs were exchanged.",
    },
    thresholds=(
        Threshold("voxels of the highest core ncsnr", _VOXELS, "those with most signal"),
        Threshold("standard errors above chance", SURELY_ABOVE, "1 in 30,000 by chance"),
        Threshold("share of the others' agreement", SHARE_OF_MISPLACED, "half"),
    ),
)


class RunAgreement(NamedTuple):
    """How much more alike a run's repetitions are than its other rows, and the error of that."""

    run: str
    value: float
    error: float


def run_agreements(
    responses: NDArray[np.float32], run: NDArray[np.object_], shown: NDArray[np.object_]
) -> list[RunAgreement]:
    """Return how repetitions agree in each run.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_rows, n_voxels)
        Normalised rows of one task.
    run, shown : ndarray of str, shape (n_rows,)
        The run of each row, and what it shows.

    Returns
    -------
    list of RunAgreement
        In the order of the runs; NaN where a run has no repetition. The error is the standard
        deviation over random exchanges of the run's rows.
    """
    centred = responses - responses.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(length > 0, length, 1)
    similarity = unit @ unit.T
    generator = np.random.default_rng(0)
    label = np.unique(shown.astype(str), return_inverse=True)[1]
    agreements = []
    for name in pd.unique(run):
        rows, others = np.flatnonzero(run == name), np.flatnonzero(run != name)
        alone = not np.isin(label[rows], label[others]).any()
        columns = rows if alone else others
        block = similarity[np.ix_(rows, columns)].astype(np.float64)
        if alone:
            np.fill_diagonal(block, 0)
        exchanged = [label[rows], *(generator.permutation(label[rows]) for _ in range(_EXCHANGES))]
        values = [_gain(block, own, own if alone else label[columns], alone) for own in exchanged]
        agreements.append(RunAgreement(str(name), values[0], float(np.std(values[1:]))))
    return agreements


def _gain(
    block: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64], alone: bool
) -> float:
    """Return the mean of a block where row and column have one label, less that where not.

    NaN where all have, or none has. In a run that is compared with itself (`alone`) no row is
    compared with itself.
    """
    same = rows[:, np.newaxis] == columns
    n_same = int(same.sum()) - (len(rows) if alone else 0)
    n_other = same.size - int(same.sum())
    if n_same == 0 or n_other == 0:
        return float("nan")
    of_same = float(np.einsum("ij,ij->", block, same))
    return of_same / n_same - (float(block.sum()) - of_same) / n_other


def check_experiment(
    subject: str,
    experiment: str,
    responses: NDArray[np.float32],
    rows: pd.DataFrame,
    ncsnr: NDArray[np.floating],
) -> list[Check]:
    """Check that repetitions agree in each run of each task.

    Parameters
    ----------
    subject, experiment : str
        Such as "subj01" and "imagery", for the checks.
    responses : ndarray of float32, shape (n_rows, n_voxels)
        z-scores over all rows.
    rows : DataFrame
        As `nsd_prep.dataset.experiments.rows_of_experiment`.
    ncsnr : ndarray of float, shape (n_voxels,)
        Of the main experiment.

    Raises
    ------
    InputFileError
        The rows hold no data.
    """
    has_data = np.flatnonzero(responses.any(axis=0))
    if not len(has_data):
        raise InputFileError(
            f"The betas of NSD-{experiment} of {subject} are constant in all voxels: expected "
            "responses; download them again."
        )
    order = np.argsort(-np.nan_to_num(ncsnr[has_data]), kind="stable")[:_VOXELS]
    chosen = responses[:, has_data[order]]
    if "image" in rows:
        tasks = {"": (np.arange(len(rows)), rows["image"].astype(str).to_numpy(object))}
    else:
        shown = (rows["target"] + " " + rows["epoch"]).to_numpy(object)
        tasks = {
            str(task): (np.flatnonzero(rows["task"] == task), shown)
            for task in pd.unique(rows["task"])
        }
    run = rows["run"].to_numpy(object)
    return [
        _judged(
            subject,
            f"NSD-{experiment}{f' {task}' if task else ''}",
            run_agreements(chosen[own], run[own], shown[own]),
        )
        for task, (own, shown) in tasks.items()
    ]


def _judged(subject: str, data: str, agreements: list[RunAgreement]) -> Check:
    known = [agreement for agreement in agreements if np.isfinite(agreement.value)]
    above = [agreement for agreement in known if agreement.value > SURELY_ABOVE * agreement.error]
    wrong = []
    for agreement in known:
        others = [other for other in known if other.run != agreement.run]
        sure = [other for other in others if other in above]
        if agreement in above or len(sure) < max(1, len(others) / 2):
            continue
        middle = float(np.median([other.value for other in others]))
        if agreement.value + SURELY_ABOVE * agreement.error < SHARE_OF_MISPLACED * middle:
            wrong.append(agreement.run)
    verdict: Verdict = "passed" if len(above) == len(agreements) else "not decidable"
    verdict = "failed" if wrong else verdict
    least = min(known, key=lambda agreement: agreement.value) if known else None
    texts = ", ".join(
        f"{agreement.run} {number_text(agreement.value, '.3f')} ± "
        f"{number_text(agreement.error, '.3f')}"
        for agreement in agreements
    )
    return Check(
        name=REPETITIONS_BY_RUN.name,
        verdict=verdict,
        subject=subject,
        data=data,
        measured=None if least is None else least.value,
        lower=0.0,
        unit=REPETITIONS_BY_RUN.unit,
        reason="exchanged" if wrong else verdict,
        details={"found": f"at chance: {', '.join(wrong)}; {texts}" if wrong else texts},
    )
