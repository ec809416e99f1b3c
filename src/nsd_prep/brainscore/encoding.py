"""An encoding baseline: how well features of the images predict a region's voxels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from nsd_prep.assembly import stimulus_ids
from nsd_prep.brainscore.train_test import blocks
from nsd_prep.errors import InputFileError, MissingFilesError
from nsd_prep.published import RELIABLE_NOISE_CEILING, REPETITIONS
from nsd_prep.synthetic import SyntheticTruth

#: Ridge penalties that are tried for each voxel, for features of unit variance.
ALPHAS: Final = tuple(float(alpha) for alpha in np.logspace(-1, 6, 15))


@dataclass(frozen=True)
class Features:
    """Features of images.

    Attributes
    ----------
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based, each once.
    values : ndarray of float, shape (n_images, n_features)
        Finite.
    """

    nsd_ids: NDArray[np.int64]
    values: NDArray[np.floating]

    def of(self, nsd_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the rows of some images.

        Parameters
        ----------
        nsd_ids : ndarray of int64, shape (n,)
            0-based.

        Returns
        -------
        ndarray of float64, shape (n, n_features)
            In their order.

        Raises
        ------
        InputFileError
            Images have no features.
        """
        absent = np.setdiff1d(nsd_ids, self.nsd_ids)
        if len(absent):
            raise InputFileError(
                f"{len(absent)} of {len(np.unique(nsd_ids))} images have no features, nsd_id "
                f"{absent[0]} (0-based) first: expected a row for each image of the assemblies; "
                "make the features of all of them."
            )
        order = np.argsort(self.nsd_ids)
        rows = order[np.searchsorted(self.nsd_ids, nsd_ids, sorter=order)]
        return self.values[rows].astype(np.float64)


def latent_features(truth: SyntheticTruth, subject: int) -> Features:
    """Return the latent features of a synthetic dataset that drive a subject's voxels.

    Parameters
    ----------
    truth : SyntheticTruth
        Of the dataset.
    subject : int
        1-based.

    Returns
    -------
    Features
        Of the subject's images: those that all subjects share, then the subject's own.
    """
    nsd_ids = truth.design.subjectim[subject - 1].astype(np.int64) - 1
    own = truth.subjects[subject].own_latents
    return Features(nsd_ids, np.hstack([truth.shared_latents[nsd_ids], own]))


def read_features(path: Path) -> Features:
    """Read features of images.

    Parameters
    ----------
    path : Path
        A netCDF file with one variable, images by features, whose first dimension has a
        coordinate ``nsd_id`` (0-based) or ``stimulus_id``.

    Returns
    -------
    Features
        As in the file.

    Raises
    ------
    MissingFilesError
        The file is not there.
    InputFileError
        It is not netCDF, or not in that form, or holds values that are not finite.
    """
    if not path.is_file():
        raise MissingFilesError(f"The features file {path} is missing: give the path of one.")
    form = (
        "expected netCDF with one variable, images by features, and a coordinate nsd_id or "
        "stimulus_id along its first dimension"
    )
    try:
        with xr.open_dataarray(path) as opened:
            array = opened.load()
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"The features file {path} cannot be read ({error}): {form}."
        ) from error
    names = [
        name
        for name in ("nsd_id", "stimulus_id")
        if name in array.coords and array.coords[name].dims == array.dims[:1]
    ]
    if array.ndim != 2 or not names or not np.issubdtype(array.dtype, np.number):
        raise InputFileError(
            f"The features file {path} holds {array.dtype} {array.dims} with the coordinates "
            f"{', '.join(map(str, array.coords)) or 'none'}: {form}."
        )
    features = Features(_nsd_ids(path, array.coords[names[0]]), array.to_numpy())
    wrong = int(np.count_nonzero(~np.isfinite(features.values)))
    if wrong or len(np.unique(features.nsd_ids)) != len(features.nsd_ids):
        raise InputFileError(
            f"The features file {path} holds {wrong} values that are not finite and "
            f"{len(features.nsd_ids) - len(np.unique(features.nsd_ids))} images more than once: "
            "expected none of either; make it again."
        )
    return features


def _nsd_ids(path: Path, labels: xr.DataArray) -> NDArray[np.int64]:
    """Return the 0-based ids that a coordinate nsd_id or stimulus_id gives."""
    texts = [str(label) for label in labels.to_numpy().tolist()]
    pattern = re.compile(r"\d+" if labels.name == "nsd_id" else r"nsd_\d+")
    strange = [text for text in texts if not pattern.fullmatch(text)]
    if strange:
        raise InputFileError(
            f"The features file {path} names an image {strange[0]!r} in {labels.name}: expected "
            "0-based whole numbers in nsd_id, or nsd_ and five digits in stimulus_id."
        )
    return np.array([int(text.removeprefix("nsd_")) for text in texts], dtype=np.int64)


def write_features(path: Path, features: Features) -> None:
    """Write features in the form that `read_features` reads."""
    xr.DataArray(
        features.values,
        dims=("presentation", "feature"),
        coords={
            "stimulus_id": ("presentation", np.array(stimulus_ids(features.nsd_ids), dtype=object)),
            "nsd_id": ("presentation", features.nsd_ids),
        },
        name="features",
    ).to_netcdf(path, engine="netcdf4")


def score_encoding(
    train: xr.DataArray, test: xr.DataArray, features: Mapping[int, Features]
) -> pd.DataFrame:
    """Fit ridge regression to the train assembly and score it on the test assembly.

    For each voxel, features are scaled to unit variance over the train images, the penalty is the
    one of `ALPHAS` with the smallest leave-one-out error on them, and predictions are correlated
    with the mean of the three test rows. A perfect model's squared correlation is the noise
    ceiling (Allen et al. 2022, Methods), so the score is ``r |r| / noise ceiling``: it keeps the
    sign, and is 0 on average where features say nothing.

    Parameters
    ----------
    train, test : DataArray, dims (presentation, neuroid, time_bin)
        As `nsd_prep.brainscore.train_test.build_train_and_test` gives them.
    features : mapping of int to Features
        Of each subject (1-based); the same for all where images alone have features.

    Returns
    -------
    DataFrame
        A row for each neuroid: neuroid_id, subject, region, noise_ceiling (percent), alpha,
        correlation (0 where a voxel does not vary), fraction_of_ceiling (NaN where the noise
        ceiling is 0).

    Raises
    ------
    InputFileError
        Images have no features.
    """
    train_ids = train["nsd_id"].to_numpy()
    test_ids = test["nsd_id"].to_numpy()[::REPETITIONS]
    table = pd.DataFrame(
        {
            "neuroid_id": train["neuroid_id"].to_numpy(),
            "subject": train["subject"].to_numpy(),
            "region": train["region"].to_numpy(),
            "noise_ceiling": train["nc_testset"].to_numpy(),
        }
    )
    train_values, test_values = train.to_numpy()[:, :, 0], test.to_numpy()[:, :, 0]
    alpha, correlation = np.empty(len(table)), np.empty(len(table))
    for subject, _, rows in blocks(table):
        known = features[int(subject.removeprefix("subj"))]
        fitted, shown = known.of(train_ids), known.of(test_ids)
        mean, deviation = fitted.mean(axis=0), fitted.std(axis=0)
        deviation[deviation == 0] = 1
        trials = test_values[:, rows].reshape(len(test_ids), REPETITIONS, len(rows))
        alpha[rows], correlation[rows] = _fit_and_correlate(
            (fitted - mean) / deviation,
            train_values[:, rows].astype(np.float64),
            (shown - mean) / deviation,
            trials.mean(axis=1, dtype=np.float64),
        )
    ceiling = table["noise_ceiling"].to_numpy() / 100
    fraction = np.full(len(table), np.nan)
    np.divide(correlation * np.abs(correlation), ceiling, out=fraction, where=ceiling > 0)
    return table.assign(alpha=alpha, correlation=correlation, fraction_of_ceiling=fraction)


def _fit_and_correlate(
    fitted: NDArray[np.float64],
    responses: NDArray[np.float64],
    shown: NDArray[np.float64],
    observed: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the penalty and the correlation of each voxel."""
    ridge = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(fitted, responses)
    predicted = ridge.predict(shown).reshape(observed.shape)
    predicted = predicted - predicted.mean(axis=0)
    observed = observed - observed.mean(axis=0)
    size = np.linalg.norm(predicted, axis=0) * np.linalg.norm(observed, axis=0)
    correlation = np.zeros(observed.shape[1])
    np.divide((predicted * observed).sum(axis=0), size, out=correlation, where=size > 1e-12)
    return np.broadcast_to(ridge.alpha_, correlation.shape), correlation


def summarise_encoding(scores: pd.DataFrame) -> pd.DataFrame:
    """Summarise the scores of each region and subject.

    Parameters
    ----------
    scores : DataFrame
        As `score_encoding` gives them.

    Returns
    -------
    DataFrame
        region, subject, voxels, reliable_voxels (noise ceiling above 30 %), and medians over the
        reliable ones: median_noise_ceiling (percent), median_correlation,
        median_fraction_of_ceiling; NaN where there are none.
    """
    regions = scores["region"].unique().tolist()
    rows: list[dict[str, Any]] = []
    for subject, region, positions in blocks(scores):
        of = scores.iloc[positions]
        reliable = of[of["noise_ceiling"] > RELIABLE_NOISE_CEILING]
        rows.append(
            {
                "region": region,
                "subject": subject,
                "voxels": len(of),
                "reliable_voxels": len(reliable),
                "median_noise_ceiling": reliable["noise_ceiling"].median(),
                "median_correlation": reliable["correlation"].median(),
                "median_fraction_of_ceiling": reliable["fraction_of_ceiling"].median(),
            }
        )
    rows.sort(key=lambda row: regions.index(row["region"]))
    return pd.DataFrame(rows)


def draw_encoding(scores: pd.DataFrame) -> Figure:
    """Draw, for each region, how the reliable voxels' fraction of the noise ceiling is distributed.

    Parameters
    ----------
    scores : DataFrame
        As `score_encoding` gives them.

    Returns
    -------
    Figure
        A box for each subject, quartiles, whiskers from the 5th to the 95th percentile; the
        number of voxels below it. The line at 1 is a perfect model.
    """
    reliable = scores[scores["noise_ceiling"] > RELIABLE_NOISE_CEILING]
    regions = scores["region"].unique().tolist()
    subjects = scores["subject"].unique().tolist()
    figure = Figure(figsize=(2.2 + 0.35 * len(subjects) * len(regions), 3.6), layout="constrained")
    panels = figure.subplots(1, len(regions), sharey=True, squeeze=False)[0]
    for panel, region in zip(panels, regions, strict=True):
        of_region = reliable[reliable["region"] == region]
        values = [
            of_region.loc[of_region["subject"] == subject, "fraction_of_ceiling"].to_numpy()
            for subject in subjects
        ]
        panel.boxplot(values, whis=(5, 95), showfliers=False, widths=0.6)
        panel.axhline(1, color="0.6", linewidth=1, zorder=0)
        panel.axhline(0, color="0.85", linewidth=1, zorder=0)
        labels = [
            f"{subject.removeprefix('subj').lstrip('0')}\n{len(of)}"
            for subject, of in zip(subjects, values, strict=True)
        ]
        panel.set_xticks(range(1, len(subjects) + 1), labels, fontsize=7)
        panel.set_title(region)
    panels[0].set_ylabel("explained variance\n(fraction of noise ceiling)")
    figure.supxlabel(
        "subject, and its number of voxels with a noise ceiling above 30 %", fontsize=8
    )
    return figure
