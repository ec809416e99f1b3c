"""Reliability of voxels, and selections by it: against plain correlations."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from single_trials_inputs import Subject
from small_nsd import SmallNSD, write_volume

import nsd_prep
from nsd_prep.core.errors import ParameterError, PreflightError
from nsd_prep.notebook import NSD, open_nsd
from nsd_prep.single_trials import open_single_trials
from nsd_prep.single_trials.reliability import (
    VoxelMinima,
    spearman_brown,
    split_half_reliability,
)


@pytest.fixture(scope="module")
def nsd(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> NSD:
    return open_nsd(tiny_nsd, cache_dir=tmp_path_factory.mktemp("cache"))


def plain_reliability(responses: np.ndarray, nsd_id: np.ndarray) -> np.ndarray:
    """Return 2r / (1 + r) of each voxel, with r over images from their first two trials."""
    pairs = [np.flatnonzero(nsd_id == one)[:2] for one in np.unique(nsd_id)]
    pairs = [pair for pair in pairs if len(pair) == 2]
    first, second = responses[[a for a, _ in pairs]], responses[[b for _, b in pairs]]
    r = np.array(
        [
            np.corrcoef(first[:, voxel], second[:, voxel])[0, 1]
            if first[:, voxel].std() * second[:, voxel].std() > 0
            else np.nan
            for voxel in range(responses.shape[1])
        ]
    )
    return 2 * r / (1 + r)


def test_split_half_against_plain_correlations(official: SmallNSD, tmp_path: Path) -> None:
    subject = Subject.load(official, 5)
    sessions = list(subject.responses())
    found = split_half_reliability(sessions, subject.trials, tmp_path)
    expected = plain_reliability(
        np.concatenate([values for _, values in sessions]).astype(float),
        subject.trials["nsd_id"].to_numpy(),
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_spearman_brown() -> None:
    np.testing.assert_allclose(spearman_brown(np.array([0.0, 0.5, 1.0])), [0, 2 / 3, 1])
    assert np.isnan(spearman_brown(np.array([np.nan, -1.0]))).all()


def test_too_few_presentations(official: SmallNSD, tmp_path: Path) -> None:
    trials = Subject.load(official, 1).trials.drop_duplicates("nsd_id")
    with pytest.raises(ParameterError, match="0 images with two presentations"):
        split_half_reliability([], trials, tmp_path)


class TestSelections:
    @pytest.mark.parametrize(
        "chosen",
        [
            {"min_ncsnr": 0.7},
            {"min_noise_ceiling": 60.0},
            {"min_reliability": 0.4},
            {"min_ncsnr": 0.5, "min_reliability": 0.3},
        ],
    )
    def test_a_file_has_the_voxels_that_are_enough(
        self, nsd: NSD, chosen: dict[str, float]
    ) -> None:
        with nsd.single_trials(1, "V1") as trials:
            everything = trials.load()
        reliability = plain_reliability(
            everything["response"].to_numpy().astype(float), everything["nsd_id"].to_numpy()
        )
        taken = np.ones(everything.sizes["voxel"], dtype=bool)
        for name, least in chosen.items():
            column = name.removeprefix("min_")
            values = reliability if column == "reliability" else everything[column].to_numpy()
            taken &= np.nan_to_num(values, nan=-1) >= least
        assert 0 < taken.sum() < len(taken)
        with nsd.single_trials(1, "V1", **chosen) as selected:
            np.testing.assert_array_equal(
                selected["response"], everything["response"][:, np.flatnonzero(taken)]
            )
            np.testing.assert_array_equal(selected["voxel_z"], everything["voxel_z"][taken])
            for name, least in chosen.items():
                assert selected.attrs[name] == least
            if "min_reliability" in chosen:
                np.testing.assert_allclose(
                    selected["split_half_reliability"], reliability[taken], atol=1e-6
                )
        assert not any(name.startswith("min_") for name in everything.attrs)

    def test_none_is_enough(self, nsd: NSD) -> None:
        sentence = "No voxel of subject 1 meets min_ncsnr=99: of 20 voxels"
        with pytest.raises(ParameterError, match=sentence):
            nsd.single_trials(1, "V1", min_ncsnr=99)

    def test_what_is_not_known_is_not_enough(self) -> None:
        voxels = pd.DataFrame({"ncsnr": [np.nan, 0.0, 1.0]})
        assert VoxelMinima(ncsnr=0).select(voxels, 1).tolist() == [False, True, True]

    def test_exports_take_the_same(self, nsd: NSD, tmp_path: Path) -> None:
        nsd.export("deepnsd", tmp_path, subjects=[1], min_ncsnr=0.9)
        metadata = pd.read_csv(tmp_path / "voxel_metadata.csv")
        assert (metadata["ncsnr"] >= 0.9).all()
        assert "min_ncsnr 0.9" in (tmp_path / "README.md").read_text()


class TestColumns:
    def test_ncsnr_of_halves_is_there_where_the_root_has_it(self, nsd: NSD, tiny_nsd: Path) -> None:
        import nibabel

        voxels = nsd.voxels(2, "V1")
        for split in (1, 2):
            (path,) = tiny_nsd.rglob(f"subj02/func1pt8mm/*/ncsnr_split{split}.nii.gz")
            volume = np.asarray(nibabel.load(path).dataobj)
            places = tuple(voxels[f"nifti_{axis}"].to_numpy() for axis in "ijk")
            np.testing.assert_array_equal(voxels[f"ncsnr_split{split}"], volume[places])

    def test_without_them_there_is_no_column(self, official: SmallNSD, tmp_path: Path) -> None:
        voxels = open_nsd(official.root, cache_dir=tmp_path).voxels(1, "V1")
        assert "ncsnr_split1" not in voxels

    def test_of_another_size(self, damageable: SmallNSD, tmp_path: Path) -> None:
        for split in (1, 2):
            path = damageable.ncsnr_path(1).with_name(f"ncsnr_split{split}.nii.gz")
            write_volume(path, np.ones((2, 3, 4), np.float32))
        with pytest.raises(PreflightError, match="the ncsnr of 24 sites: expected 240"):
            open_nsd(damageable.root, cache_dir=tmp_path / "cache").voxels(1, "V1")


@pytest.mark.slow
def test_a_run_writes_and_checks_the_voxels_that_are_taken(tiny_nsd: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "nsd_root": tiny_nsd,
        "output_dir": tmp_path,
        "subjects": [1],
        "regions": ["V1", "IT"],
        "single_trials": True,
        "assemblies": False,
        "progress": False,
        "min_ncsnr": 0.6,
        "min_reliability": 0.2,
    }
    nsd_prep.prepare(**options)
    voxels = pd.read_csv(tmp_path / "subj01_voxels.csv")
    with open_single_trials(tmp_path / "subj01.nc") as trials:
        assert trials.sizes["voxel"] == len(voxels)
        assert (trials["ncsnr"] >= 0.6).all()
        np.testing.assert_allclose(
            trials["split_half_reliability"], voxels["split_half_reliability"]
        )
    assert {"ncsnr_split1", "ncsnr_split2", "first_second_correlation"} < set(voxels)
    with pytest.raises(ParameterError, match=r"min_ncsnr=0\.6 there, min_ncsnr=0\.5 in"):
        nsd_prep.prepare(**options | {"min_ncsnr": 0.5})
