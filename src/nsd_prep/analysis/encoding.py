"""An encoding baseline: how well features of the images predict a region's voxels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.analysis.features import Features
from nsd_prep.analysis.rdm_statistics import jackknife_interval
from nsd_prep.assemblies.train_test import blocks
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING, REPETITIONS

#: Ridge penalties that are tried for each voxel, for features of unit variance.
ALPHAS: Final = tuple(float(alpha) for alpha in np.logspace(-1, 6, 15))

#: Voxels fitted together: regression takes five times their responses in memory.
_VOXELS_AT_ONCE: Final = 2048
#: Images for training, and for testing, below which a regression is none: leave-one-out needs two
#: to fit, and a correlation over two images is 1 or -1.
FEWEST_IMAGES_FITTED: Final = 3


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
        As `nsd_prep.assemblies.train_test.build_train_and_test` gives them, or as they are opened
        from their files: some voxels of them are in memory at a time.
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
            "subject": _shared(train["subject"]),
            "region": _shared(train["region"]),
            "noise_ceiling": train["nc_testset"].to_numpy(),
        }
    )
    alpha, correlation = np.empty(len(table)), np.empty(len(table))
    ridges: dict[str, _Ridge] = {}
    for subject, _, rows in blocks(table):
        if subject not in ridges:
            known = features[int(subject.removeprefix("subj"))]
            ridges = {subject: _Ridge.of(known.select(train_ids), known.select(test_ids))}
        for start in range(rows[0], rows[-1] + 1, _VOXELS_AT_ONCE):
            some = slice(start, min(start + _VOXELS_AT_ONCE, rows[-1] + 1))
            trials = test[:, some].to_numpy().reshape(len(test_ids), REPETITIONS, -1)
            alpha[some], predicted = ridges[subject].predict(
                train[:, some, 0].to_numpy().astype(np.float64)
            )
            correlation[some] = _correlate(predicted, trials.mean(axis=1, dtype=np.float64))
    ceiling = table["noise_ceiling"].to_numpy() / 100
    fraction = np.full(len(table), np.nan)
    np.divide(correlation * np.abs(correlation), ceiling, out=fraction, where=ceiling > 0)
    return table.assign(alpha=alpha, correlation=correlation, fraction_of_ceiling=fraction)


def _shared(names: xr.DataArray) -> NDArray[np.object_]:
    """Return names with one string in memory for all that are equal, not one for each."""
    codes, distinct = pd.factorize(names.to_numpy())
    return np.asarray(distinct, dtype=object)[codes]


@dataclass(frozen=True)
class _Ridge:
    """Ridge regression from a subject's features, decomposed once for all voxels and penalties.

    Attributes
    ----------
    vectors : ndarray of float, shape (n_train, n_components)
        Eigenvectors of the products of the train images' features with each other.
    eigenvalues : ndarray of float, shape (n_components,)
        Not negative.
    shown : ndarray of float, shape (n_test, n_components)
        Products of the test images' features with the train images', in terms of the vectors.
    """

    vectors: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    shown: NDArray[np.float64]

    @classmethod
    def of(cls, fitted: NDArray[np.float64], shown: NDArray[np.float64]) -> "_Ridge":
        """Decompose features of train images, scaled to unit variance over them."""
        mean, deviation = fitted.mean(axis=0), fitted.std(axis=0)
        deviation[deviation == 0] = 1
        fitted, shown = (fitted - mean) / deviation, (shown - mean) / deviation
        eigenvalues, vectors = np.linalg.eigh(fitted @ fitted.T)
        # Ascending; features that are centred have no more components than this.
        rank = min(len(fitted) - 1, fitted.shape[1])
        vectors = np.ascontiguousarray(vectors[:, -rank:])
        return cls(vectors, eigenvalues[-rank:].clip(min=0), shown @ fitted.T @ vectors)

    def predict(
        self, responses: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fit train responses (n_train, n_voxels) and predict those to the test images.

        The error of a prediction from all other images is the residual of the fit to all, divided
        by one minus the image's leverage (Rifkin and Lippert 2007, Notes on Regularized Least
        Squares), so that no image needs a fit of its own.

        Returns
        -------
        penalties : ndarray of float, shape (n_voxels,)
        predicted : ndarray of float, shape (n_test, n_voxels)
            Up to a constant of each voxel.
        """
        centred = responses - responses.mean(axis=0)
        weights = self.vectors.T @ centred
        squared, residuals = self.vectors**2, np.empty_like(centred)
        errors = np.empty((len(ALPHAS), centred.shape[1]))
        for row, alpha in zip(errors, ALPHAS, strict=True):
            share = self.eigenvalues / (self.eigenvalues + alpha)
            np.matmul(self.vectors * share, weights, out=residuals)
            np.subtract(centred, residuals, out=residuals)
            np.square(residuals, out=residuals)
            np.matmul((1 - squared @ share - 1 / len(centred)) ** -2, residuals, out=row)
        penalties = np.array(ALPHAS)[errors.argmin(axis=0)]
        return penalties, self.shown @ (weights / (self.eigenvalues[:, np.newaxis] + penalties))


def _correlate(
    predicted: NDArray[np.float64], observed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the correlation of each voxel, 0 where it does not vary."""
    predicted = predicted - predicted.mean(axis=0)
    observed = observed - observed.mean(axis=0)
    size = np.linalg.norm(predicted, axis=0) * np.linalg.norm(observed, axis=0)
    correlation = np.zeros(observed.shape[1])
    np.divide((predicted * observed).sum(axis=0), size, out=correlation, where=size > 1e-12)
    return correlation


def summarise_encoding(scores: pd.DataFrame) -> pd.DataFrame:
    """Summarise the scores of each region and subject, as `score_encoding` gives them.

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
        inside = scores.iloc[positions]
        reliable = inside[inside["noise_ceiling"] > RELIABLE_NOISE_CEILING]
        rows.append(
            {
                "region": region,
                "subject": subject,
                "voxels": len(inside),
                "reliable_voxels": len(reliable),
                "median_noise_ceiling": reliable["noise_ceiling"].median(),
                "median_correlation": reliable["correlation"].median(),
                "median_fraction_of_ceiling": reliable["fraction_of_ceiling"].median(),
            }
        )
    rows.sort(key=lambda row: regions.index(row["region"]))
    return pd.DataFrame(rows)


def shift_of_ids(
    train: xr.DataArray,
    test: xr.DataArray,
    features: Mapping[int, Features],
    scores: pd.DataFrame,
) -> int | None:
    """Return by how much the ids of features are off, where a shift by one makes them predict.

    Parameters
    ----------
    train, test, features
        As `score_encoding` takes them.
    scores : DataFrame
        As it gives them.

    Returns
    -------
    {-1, 1} or None
        What is to be added to the ids; None where they predict a region as they are, or none with
        a shift either.
    """
    n_test = test.sizes["presentation"] // REPETITIONS
    if _best_region(scores) >= chance_level(n_test):
        return None
    ids = train["nsd_id"].to_numpy(), test["nsd_id"].to_numpy()
    for shift in (-1, 1):
        shifted = {
            subject: Features(own.nsd_ids + shift, own.values) for subject, own in features.items()
        }
        has_features = [
            np.logical_and.reduce([np.isin(side, own.nsd_ids) for own in shifted.values()])
            for side in ids
        ]
        n_train, n_rows = (int(np.count_nonzero(rows)) for rows in has_features)
        if min(n_train, n_rows // REPETITIONS) < FEWEST_IMAGES_FITTED:
            continue
        again = score_encoding(train[has_features[0]], test[has_features[1]], shifted)
        if _best_region(again) >= chance_level(n_rows // REPETITIONS):
            return shift
    return None


def chance_level(n_images: int) -> float:
    """Return what the median correlation of a region's voxels stays below without a relation."""
    return 2 / np.sqrt(n_images)


def _best_region(scores: pd.DataFrame) -> float:
    """Return the largest median of a region's correlations, over its reliable voxels."""
    reliable = scores[scores["noise_ceiling"] > RELIABLE_NOISE_CEILING]
    return float(reliable.groupby("region")["correlation"].median().max())


def encoding_over_subjects(summary: pd.DataFrame) -> pd.DataFrame:
    """Average each region's correlations over subjects, from what `summarise_encoding` gives.

    Returns
    -------
    DataFrame
        region; subjects, those with reliable voxels; mean_correlation, the mean of their
        median_correlation; low_subjects and high_subjects, the ends of its 95 % interval over
        subjects (NaN of fewer than four).
    """
    rows = []
    for region, inside in summary.groupby("region", sort=False):
        medians = inside["median_correlation"].dropna().to_numpy()
        n_subjects = len(medians)
        mean = medians.mean() if n_subjects else np.nan
        left_out = (medians.sum() - medians) / max(n_subjects - 1, 1)
        low, high = jackknife_interval(mean, left_out)
        rows.append(
            {
                "region": region,
                "subjects": n_subjects,
                "mean_correlation": mean,
                "low_subjects": low,
                "high_subjects": high,
            }
        )
    return pd.DataFrame(rows)
