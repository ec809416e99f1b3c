"""The synthetic NSD: NSD's formats to the letter, and a truth that the data hold."""

import csv
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import psutil
import pytest
from scipy.io import loadmat
from scipy.ndimage import convolve
from synthetic_truth import region_latents, region_rows, signal

from nsd_prep.analysis.image_features import image_features
from nsd_prep.checks import check_colours, check_images
from nsd_prep.core.errors import InputFileError, OutputError, ParameterError
from nsd_prep.dataset.hdf5.places import ChunkPlaces
from nsd_prep.pipeline.synthetic_beside import synthetic_beside
from nsd_prep.sources.opening import open_dataset
from nsd_prep.sources.sessions import predicted_parts
from nsd_prep.synthetic import PLANS, SyntheticPlan, SyntheticTruth, read_truth, write_synthetic_nsd
from nsd_prep.synthetic.anatomy import make_cortex
from nsd_prep.synthetic.design import make_design
from nsd_prep.synthetic.labels import LABEL_NAMES, make_labels, make_labels_of_subject
from nsd_prep.synthetic.latents import DIMENSIONS, dimension_weights, draw_pictures, shared_latents

SESSIONS = {1: 6, 2: 6, 5: 5}
TRIALS = 30
SEED = 7
FAMILIES = {
    "prf-visualrois": 7,
    "prf-eccrois": 5,
    "streams": 7,
    "nsdgeneral": 1,
    "HCP_MMP1": 180,
    "Kastner2015": 25,
    "corticalsulc": 28,
    "floc-faces": 5,
    "floc-words": 5,
    "floc-places": 3,
    "floc-bodies": 4,
}
IT_GLASSER = (18, 126, 127, 133, 136, 154, 155, 160, 163)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "official"
    write_synthetic_nsd(root, scale="tiny", seed=SEED)
    return root


@pytest.fixture(scope="module")
def truth(official: Path) -> SyntheticTruth:
    return read_truth(official)


def betas_folder(root: Path, subject: int) -> Path:
    folder = f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    return root / folder


def roi_folder(root: Path, subject: int) -> Path:
    return root / f"nsddata/ppdata/subj{subject:02d}/func1pt8mm/roi"


def volume(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


def all_betas(root: Path, subject: int, sessions: int) -> np.ndarray:
    """Give (session, trial, voxel) int16, voxels in C order of the reversed volume."""
    stack = []
    for session in range(1, sessions + 1):
        path = betas_folder(root, subject) / f"betas_session{session:02d}.hdf5"
        with h5py.File(path) as file:
            stack.append(file["betas"][:].reshape(TRIALS, -1))
    return np.array(stack)


def expdesign(root: Path) -> dict[str, np.ndarray]:
    return loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat")


def stimulus_rows(root: Path) -> list[dict[str, str]]:
    path = root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


class TestFormats:
    def test_dataset_json_gives_the_shape(self, official: Path) -> None:
        description = json.loads((official / "dataset.json").read_text())
        assert description["name"] == "synthetic-tiny"
        assert description["trials_per_session"] == TRIALS
        assert description["sessions"] == {"1": 6, "2": 6, "5": 5}

    @pytest.mark.parametrize("subject", SESSIONS)
    def test_betas_are_int16_with_one_chunk_a_voxel(self, official: Path, subject: int) -> None:
        files = sorted(betas_folder(official, subject).glob("betas_session*.hdf5"))
        assert [file.name for file in files] == [
            f"betas_session{n:02d}.hdf5" for n in range(1, SESSIONS[subject] + 1)
        ]
        grid = volume(roi_folder(official, subject) / "streams.nii.gz").shape
        for path in files:
            with h5py.File(path) as file:
                assert list(file) == ["betas"]
                betas = file["betas"]
                assert betas.shape == (TRIALS, *grid[::-1])
                assert betas.dtype == np.dtype("<i2")
                assert betas.chunks == (TRIALS, 1, 1, 1)
                assert betas.compression is None
                assert not betas.shuffle
                assert not betas.attrs
                assert not file.attrs

    @pytest.mark.parametrize("scale", ["tiny", "demo", "full"])
    def test_grids_have_three_different_dimensions_and_differ(self, scale: str) -> None:
        grids = [subject.grid for subject in PLANS[scale].subjects.values()]
        assert len(set(grids)) == len(grids)
        assert all(len(set(grid)) == 3 for grid in grids)

    @pytest.mark.parametrize("subject", SESSIONS)
    def test_every_voxel_with_a_label_is_allocated(self, official: Path, subject: int) -> None:
        labelled = np.zeros(PLANS["tiny"].subjects[subject].grid, dtype=bool)
        for path in roi_folder(official, subject).glob("*.nii.gz"):
            labelled |= volume(path) > 0
        with h5py.File(betas_folder(official, subject) / "betas_session01.hdf5") as file:
            betas = file["betas"].id
            allocated = np.zeros(labelled.shape[::-1], dtype=bool)
            for number in range(betas.get_num_chunks()):
                allocated[betas.get_chunk_info(number).chunk_offset[1:]] = True
        np.testing.assert_array_equal(allocated.transpose(2, 1, 0), labelled)

    @pytest.mark.parametrize("subject", SESSIONS)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_label_volumes(self, official: Path, subject: int, family: str) -> None:
        images = {
            side: nibabel.load(roi_folder(official, subject) / f"{side}{family}.nii.gz")
            for side in ("lh.", "rh.", "")
        }
        for image in images.values():
            assert image.get_data_dtype() == np.float64
            dimensions = np.array(image.shape)
            expected = np.diag([1.8, 1.8, 1.8, 1.0])
            expected[:3, 3] = -1.8 * (dimensions - 1) / 2
            np.testing.assert_allclose(image.affine, expected, atol=1e-5)
        left, right, both = (np.asanyarray(image.dataobj) for image in images.values())
        assert not ((left >= 0) & (right >= 0)).any()
        np.testing.assert_array_equal(both, np.where(left != -1, left, right))
        found = np.unique(both)
        assert found[0] == -1
        assert found[1] == 0
        assert 1 <= found[2] <= found[-1] <= FAMILIES[family]
        np.testing.assert_array_equal(found, found.round())
        assert (left > 0).any()
        assert (right > 0).any()

    def test_label_tables_name_every_label(self, official: Path) -> None:
        for family in FAMILIES:
            path = official / f"nsddata/freesurfer/subj02/label/{family}.mgz.ctab"
            names = dict(line.split() for line in path.read_text().splitlines())
            labels = np.unique(volume(roi_folder(official, 2) / f"{family}.nii.gz"))
            assert {str(int(label)) for label in labels if label > 0} <= set(names)
        table = official / "nsddata/freesurfer/subj02/label/HCP_MMP1.mgz.ctab"
        assert "136 TE2p" in table.read_text().splitlines()

    @pytest.mark.parametrize("subject", SESSIONS)
    def test_all_regions_of_the_pipeline_are_there(self, official: Path, subject: int) -> None:
        def present(family: str) -> set[int]:
            return set(volume(roi_folder(official, subject) / f"{family}.nii.gz").astype(int).flat)

        assert set(range(-1, 8)) == present("prf-visualrois")
        assert set(range(-1, 8)) == present("streams")
        assert set(IT_GLASSER) <= present("HCP_MMP1")

    def test_ncsnr_is_float32_with_nan_and_exact_zeros(self, official: Path) -> None:
        for subject in SESSIONS:
            image = nibabel.load(betas_folder(official, subject) / "ncsnr.nii.gz")
            assert image.get_data_dtype() == np.float32
            ncsnr = np.asanyarray(image.dataobj)
            inside = volume(roi_folder(official, subject) / "nsdgeneral.nii.gz") > 0
            assert np.isnan(ncsnr[~inside]).any()
            assert np.isnan(ncsnr[inside]).any()
            assert (ncsnr[inside] == 0).any()
            assert np.nanmin(ncsnr) >= 0

    def test_masks_of_the_brain(self, official: Path, truth: SyntheticTruth) -> None:
        folder = roi_folder(official, 5).parent
        brain, valid = volume(folder / "brainmask.nii.gz"), volume(folder / "valid.nii.gz")
        sessions = [volume(folder / f"valid_session{n:02d}.nii.gz") for n in range(1, 6)]
        np.testing.assert_allclose(valid, np.mean(sessions, axis=0), atol=1e-6)
        assert set(np.unique(brain)) == {0, 1}
        assert not valid[brain == 0].any()
        of_voxels = valid.transpose(2, 1, 0).ravel()[truth.subjects[5].voxel_index]
        np.testing.assert_allclose(of_voxels, truth.subjects[5].has_data.mean(axis=1), atol=1e-6)

    def test_design_has_unsigned_integers_of_the_right_shape(self, official: Path) -> None:
        design = expdesign(official)
        shapes = {
            "masterordering": (1, 180),
            "subjectim": (8, 60),
            "sharedix": (1, 32),
            "stimpattern": (6, 3, 12),
            "basiccnt": (3, 6),
        }
        for name, shape in shapes.items():
            assert design[name].shape == shape
            assert design[name].dtype.kind == "u"
        assert (design["stimpattern"].sum(axis=(1, 2)) == TRIALS).all()

    def test_stimulus_table_has_nsds_columns(self, official: Path) -> None:
        rows = stimulus_rows(official)
        subjects = range(1, 9)
        assert list(rows[0]) == [
            "",
            *("cocoId", "cocoSplit", "cropBox", "loss", "nsdId"),
            *("flagged", "BOLD5000", "shared1000"),
            *(f"subject{subject}" for subject in subjects),
            *(f"subject{subject}_rep{rep}" for subject in subjects for rep in range(3)),
        ]
        assert [row[""] for row in rows] == [row["nsdId"] for row in rows]
        assert [int(row["nsdId"]) for row in rows] == list(range(len(rows)))

    def test_pictures_are_there_for_every_image_and_not_constant(self, official: Path) -> None:
        with h5py.File(official / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
            pictures = file["imgBrick"][:]
        assert pictures.dtype == np.uint8
        assert pictures.shape == (len(stimulus_rows(official)), 8, 8, 3)
        assert (pictures.reshape(len(pictures), -1).std(axis=1) > 5).all()


class TestPictures:
    @pytest.mark.parametrize("scale", ["demo", "full"])
    def test_they_tell_of_v1_as_photographs_do(self, scale: str) -> None:
        plan = PLANS[scale]
        latents = shared_latents(plan, 0)[:120]
        pictures = draw_pictures(latents, plan.image_size, 0)
        features = image_features(pictures)
        v1 = 1 - np.corrcoef(latents * np.sqrt(dimension_weights("V1")[:DIMENSIONS]))
        assert check_images(features, v1, natural=False).verdict == "passed"
        shifted = check_images(np.roll(features, 1, axis=0), v1, natural=True)
        assert shifted.verdict == "failed"
        means = pictures.mean(axis=(1, 2))
        assert check_colours(means).verdict == "passed"
        assert check_colours(means[:, ::-1]).verdict == "suspicious"


class TestDesign:
    def test_agrees_with_the_stimulus_table(self, official: Path) -> None:
        design, rows = expdesign(official), stimulus_rows(official)
        for subject in range(1, 9):
            trials_of: dict[int, list[int]] = {}
            for trial, number in enumerate(design["masterordering"][0].tolist(), start=1):
                nsd_id = int(design["subjectim"][subject - 1, number - 1]) - 1
                trials_of.setdefault(nsd_id, []).append(trial)
            for row in rows:
                found = [int(row[f"subject{subject}_rep{rep}"]) for rep in range(3)]
                nsd_id = int(row["nsdId"])
                assert found == trials_of.get(nsd_id, [0, 0, 0])
                assert row[f"subject{subject}"] == str(int(nsd_id in trials_of))

    def test_every_image_is_planned_three_times(self, official: Path) -> None:
        numbers, times = np.unique(expdesign(official)["masterordering"], return_counts=True)
        np.testing.assert_array_equal(numbers, np.arange(1, 61))
        assert (times == 3).all()

    def test_shared_images_come_first_and_are_ascending(self, official: Path) -> None:
        design, rows = expdesign(official), stimulus_rows(official)
        shared = design["sharedix"][0].astype(int)
        assert (np.diff(shared) > 0).all()
        np.testing.assert_array_equal(design["subjectim"][:, :32], np.tile(shared, (8, 1)))
        own = design["subjectim"][:, 32:]
        assert len(np.unique(own)) == own.size
        assert not np.isin(own, shared).any()
        marked = [int(row["nsdId"]) + 1 for row in rows if row["shared1000"] == "True"]
        assert marked == shared.tolist()

    def test_images_repeat_within_a_session(self, official: Path) -> None:
        numbers = expdesign(official)["masterordering"].reshape(6, TRIALS)
        repeats = [TRIALS - len(np.unique(session)) for session in numbers]
        shared_repeats = [
            (session <= 32).sum() - len(np.unique(session[session <= 32])) for session in numbers
        ]
        assert min(repeats) > 0
        assert sum(shared_repeats) > 0

    def test_enough_images_are_usable_and_some_are_not(self, official: Path) -> None:
        within = expdesign(official)["masterordering"][0, : 5 * TRIALS].tolist()
        repetitions = [within.count(number) for number in range(1, 33)]
        assert repetitions.count(3) == 24
        assert set(repetitions) == {0, 1, 2, 3}

    @pytest.mark.parametrize("seed", [0, 1])
    def test_full_scale_has_the_published_repetitions(self, seed: int) -> None:
        ordering = make_design(PLANS["full"], seed).masterordering
        assert len(ordering) == 30_000

        def counts(sessions: int) -> list[int]:
            shown = np.bincount(ordering[: sessions * 750], minlength=10_001)[1:1001]
            return [int((shown == times).sum()) for times in (3, 2, 1, 0)]

        assert counts(40) == [1000, 0, 0, 0]
        assert counts(32) == [614, 213, 103, 70]
        assert counts(30) == [515, 251, 141, 93]
        repeats = [750 - len(np.unique(session)) for session in ordering.reshape(40, 750)]
        assert 150 < np.mean(repeats) < 190

    def test_full_scale_has_the_published_shape(self) -> None:
        plan = PLANS["full"]
        assert (plan.images, plan.shared_images, plan.planned_sessions) == (73_000, 1000, 40)
        subjects = plan.subjects
        assert [subjects[s].sessions for s in range(1, 9)] == [40, 40, 32, 30, 40, 32, 40, 30]
        totals = {
            region: sum(subject.voxels[region] for subject in subjects.values())
            for region in ("V1", "V2", "V4", "IT")
        }
        assert totals == {"V1": 9039, "V2": 8792, "V4": 3982, "IT": 62_751}
        assert plan.runs == (12, 75)

    def test_demo_has_a_hundred_images_usable_for_all_eight_subjects(self) -> None:
        plan = PLANS["demo"]
        fewest = min(subject.sessions for subject in plan.subjects.values())
        ordering = make_design(plan, 0).masterordering[: fewest * plan.trials_per_session]
        shown = np.bincount(ordering, minlength=plan.images_per_subject + 1)
        assert len(plan.subjects) == 8
        assert (shown[1 : plan.shared_images + 1] == 3).sum() >= 100

    def test_impossible_repetitions_are_refused(self) -> None:
        plan = replace(PLANS["tiny"], shared_repetitions={(0, 3): 30})
        with pytest.raises(ParameterError, match="no order of 180 trials"):
            make_design(plan, 0)


class TestAnatomy:
    @pytest.mark.parametrize("subject", [1, 6])
    def test_full_scale_regions_have_the_published_voxels(self, subject: int) -> None:
        plan = PLANS["full"].subjects[subject]
        cortex = make_cortex(plan, subject, 0)
        labels = make_labels(cortex)
        prf, streams = labels["prf-visualrois"], labels["streams"]
        found = {
            "V1": np.isin(prf, (1, 2)).sum(),
            "V2": np.isin(prf, (3, 4)).sum(),
            "V4": (prf == 7).sum(),
            "IT": (streams == 5).sum(),
        }
        assert found == {region: plan.voxels[region] for region in found}
        assert 20 <= ((prf == 7) & (streams == 5)).sum() <= 60

    @pytest.mark.parametrize("seed", [0, 4])
    def test_full_scale_regions_lie_as_close_together_as_those_of_nsd(self, seed: int) -> None:
        # NSD's own: 725 ranges and 31.5 MB a session; what a run fetches from a bucket.
        cortex = make_cortex(PLANS["full"].subjects[1], 1, seed)
        inside = cortex.in_patches("V1v", "V1d", "V2v", "V2d", "hV4", "ventral")
        shape = cortex.grid[::-1]
        places = ChunkPlaces.predict(shape, 750)
        parts = predicted_parts(shape, 750, cortex.voxel_index[inside])
        assert 900 < sum(len(part.ranges.pieces()) for part in parts) < 1200
        assert 0.022 < sum(part.ranges.n_bytes for part in parts) / places.file_bytes < 0.03

    def test_regions_are_patches_and_neither_boxes_nor_dust(self) -> None:
        plan = PLANS["demo"].subjects[3]
        cortex = make_cortex(plan, 3, 0)
        labels = make_labels(cortex)
        for inside in (labels["prf-visualrois"] == 1, labels["streams"] == 5):
            for right in (False, True):
                mask = np.zeros(cortex.brain.shape, dtype=bool)
                mask.flat[cortex.voxel_index[inside & (cortex.right == right)]] = True
                box = np.prod([np.ptp(axis) + 1 for axis in np.nonzero(mask)])
                neighbours = convolve(mask.astype(int), np.ones((3, 3, 3)), mode="constant") - 1
                assert mask.sum() < 0.7 * box
                assert (neighbours[mask] >= 2).mean() > 0.95

    @pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
    def test_a_flipped_mask_leaves_the_labelled_cortex(self, axes: tuple[int, ...]) -> None:
        for subject, plan in PLANS["demo"].subjects.items():
            cortex = make_cortex(plan, subject, 0)
            labels = make_labels(cortex)
            labelled = np.zeros(cortex.brain.shape, dtype=bool)
            labelled.flat[cortex.voxel_index[np.any(list(labels.values()), axis=0)]] = True
            for inside in (np.isin(labels["prf-visualrois"], (1, 2)), labels["streams"] == 5):
                mask = np.zeros(cortex.brain.shape, dtype=bool)
                mask.flat[cortex.voxel_index[inside]] = True
                assert (~labelled[np.flip(mask, axes)]).mean() > 0.1

    @pytest.mark.parametrize(
        ("subject", "lacked"),
        [
            (1, {"mTL-faces", "mTL-bodies"}),
            (2, {"mTL-faces", "mTL-bodies", "FBA-1"}),
            (3, {"mTL-faces", "mTL-bodies", "mTL-words"}),
            (4, {"aTL-faces"}),
            (5, set()),
            (6, {"mTL-faces"}),
            (7, {"FBA-1", "mTL-bodies"}),
            (8, set()),
        ],
    )
    def test_a_subject_lacks_the_areas_that_nsds_own_lacks(
        self, subject: int, lacked: set[str]
    ) -> None:
        cortex = make_cortex(PLANS["demo"].subjects[subject], subject, 0)
        labels = make_labels_of_subject(cortex, subject)
        absent = {
            name
            for family, names in LABEL_NAMES.items()
            for label, name in names.items()
            if label not in labels[family]
        }
        assert absent == lacked

    @pytest.mark.parametrize("subject", SESSIONS)
    def test_hv4_and_the_ventral_stream_overlap(self, official: Path, subject: int) -> None:
        prf = volume(roi_folder(official, subject) / "prf-visualrois.nii.gz")
        streams = volume(roi_folder(official, subject) / "streams.nii.gz")
        assert 3 <= ((prf == 7) & (streams == 5)).sum() < (prf == 7).sum()

    def test_too_small_a_grid_is_refused(self) -> None:
        plan = replace(PLANS["tiny"].subjects[1], grid=(5, 6, 7))
        with pytest.raises(ParameterError, match="too little cortex"):
            make_cortex(plan, 1, 0)


class TestBetas:
    def test_invalid_voxels_are_zero_and_the_others_vary(
        self, official: Path, truth: SyntheticTruth
    ) -> None:
        partly = 0
        for subject, sessions in SESSIONS.items():
            of_subject = truth.subjects[subject]
            betas = all_betas(official, subject, sessions)[:, :, of_subject.voxel_index]
            has_data = of_subject.has_data.T
            assert not betas.transpose(0, 2, 1)[~has_data].any()
            assert (betas.std(axis=1)[has_data] > 0).all()
            never = ~has_data.any(axis=0)
            assert never.any()
            np.testing.assert_array_equal(np.isnan(of_subject.ncsnr), never)
            partly += int((has_data.any(axis=0) & ~has_data.all(axis=0)).sum())
            for region in ("V1", "V2", "V4", "IT"):
                voxels = region_rows(of_subject, region)
                assert (~of_subject.has_data[voxels]).any(axis=1).mean() <= 0.1
        assert partly >= 3

    def test_some_betas_are_at_the_limits_of_int16(self, official: Path) -> None:
        betas = [all_betas(official, subject, n) for subject, n in SESSIONS.items()]
        assert max(part.max() for part in betas) == 32767
        assert min(part.min() for part in betas) == -32768
        for part in betas:
            assert np.isin(part, (32767, -32768)).mean() < 0.001

    def test_ncsnr_is_what_the_authors_procedure_gives(
        self, official: Path, truth: SyntheticTruth
    ) -> None:
        ordering = expdesign(official)["masterordering"][0].astype(int)
        for subject, sessions in SESSIONS.items():
            stored = volume(betas_folder(official, subject) / "ncsnr.nii.gz")
            stored = stored.transpose(2, 1, 0).ravel()
            betas = all_betas(official, subject, sessions)
            numbers = ordering[: sessions * TRIALS].tolist()
            for voxel in truth.subjects[subject].voxel_index[::3]:
                expected = slow_ncsnr(betas[:, :, voxel], numbers)
                np.testing.assert_allclose(stored[voxel], expected, rtol=2e-4, atol=2e-3)

    def test_ncsnr_of_a_half_is_that_of_its_images(
        self, official: Path, truth: SyntheticTruth
    ) -> None:
        ordering = expdesign(official)["masterordering"][0].astype(int)
        betas = all_betas(official, 1, SESSIONS[1])
        numbers = ordering[: SESSIONS[1] * TRIALS]
        for split in (1, 2):
            stored = volume(betas_folder(official, 1) / f"ncsnr_split{split}.nii.gz")
            stored = stored.transpose(2, 1, 0).ravel()
            own = np.where(numbers % 2 == split % 2, numbers, -np.arange(1, len(numbers) + 1))
            for voxel in truth.subjects[1].voxel_index[::9]:
                expected = slow_ncsnr(betas[:, :, voxel], own.tolist())
                np.testing.assert_allclose(stored[voxel], expected, rtol=5e-4, atol=2e-2)

    def test_signal_strength_is_recovered(self, truth: SyntheticTruth) -> None:
        for of_subject in truth.subjects.values():
            known = ~np.isnan(of_subject.ncsnr)
            strength, found = of_subject.signal_strength[known], of_subject.ncsnr[known]
            assert np.corrcoef(strength, found)[0, 1] > 0.8
            assert abs(np.median(found) / np.median(strength) - 1) < 0.2

    def test_betas_hold_the_signal_of_their_images(
        self, official: Path, truth: SyntheticTruth
    ) -> None:
        """Independent of the order of trials in the library: each trial against its own image."""
        design = expdesign(official)
        for subject, sessions in SESSIONS.items():
            of_subject = truth.subjects[subject]
            numbers = design["masterordering"][0, : sessions * TRIALS].astype(int)
            nsd_ids = design["subjectim"][subject - 1].astype(int)[numbers - 1] - 1
            responses = signal(truth, subject, nsd_ids)
            betas = all_betas(official, subject, sessions)[:, :, of_subject.voxel_index]
            betas = betas.astype(float)
            z = (betas - betas.mean(axis=1, keepdims=True)) / (betas.std(axis=1, keepdims=True) + 1)
            z = z.reshape(len(nsd_ids), -1)
            good = (of_subject.signal_strength > 0.7) & of_subject.has_data.all(axis=1)
            agreement = [np.corrcoef(z[:, v], responses[:, v])[0, 1] for v in np.flatnonzero(good)]
            shifted = [
                np.corrcoef(np.roll(z[:, v], 1), responses[:, v])[0, 1]
                for v in np.flatnonzero(good)
            ]
            assert np.mean(agreement) > 0.5
            assert abs(np.mean(shifted)) < 0.15

    def test_sessions_differ_in_gain_and_offset(
        self, official: Path, truth: SyntheticTruth
    ) -> None:
        of_subject = truth.subjects[1]
        good = of_subject.has_data.all(axis=1)
        betas = all_betas(official, 1, 6)[:, :, of_subject.voxel_index[good]].astype(float)
        assert np.ptp(np.median(betas.std(axis=1), axis=1)) > 20
        assert np.ptp(np.median(betas.mean(axis=1), axis=1)) > 20


def slow_ncsnr(betas: np.ndarray, numbers: list[int]) -> float:
    """Compute a voxel's ncsnr from (session, trial) betas, image by image."""
    z = []
    for session in betas.astype(np.float64):
        sd = session.std(ddof=1)
        z.extend((session - session.mean()) / sd if sd > 0 else np.full(len(session), np.nan))
    variances = []
    for number in set(numbers):
        trials = [value for value, shown in zip(z, numbers, strict=True) if shown == number]
        if len(trials) == 3 and not np.isnan(trials).any():
            variances.append(np.var(trials, ddof=1))
    if not variances:
        return float("nan")
    noise = np.sqrt(np.mean(variances))
    return float(np.sqrt(max(0.0, 1 - noise**2)) / noise)


class TestTruth:
    def test_returned_and_read_truth_are_the_same(self, tmp_path: Path) -> None:
        returned = write_synthetic_nsd(tmp_path / "root", subjects=[5])
        read = read_truth(tmp_path / "root")
        assert list(read.subjects) == [5]
        np.testing.assert_array_equal(returned.shared_latents, read.shared_latents)
        for name, values in vars(returned.subjects[5]).items():
            np.testing.assert_array_equal(values, vars(read.subjects[5])[name])

    def test_regions_are_those_of_the_label_volumes(
        self, official: Path, truth: SyntheticTruth
    ) -> None:
        labels = {
            "V1": ("prf-visualrois", (1, 2)),
            "V2": ("prf-visualrois", (3, 4)),
            "V3": ("prf-visualrois", (5, 6)),
            "V4": ("prf-visualrois", (7,)),
            "IT": ("streams", (5,)),
        }
        for subject, of_subject in truth.subjects.items():
            for region, (family, numbers) in labels.items():
                mask = np.isin(volume(roi_folder(official, subject) / f"{family}.nii.gz"), numbers)
                expected = np.flatnonzero(mask.transpose(2, 1, 0))
                found = of_subject.voxel_index[region_rows(of_subject, region)]
                np.testing.assert_array_equal(found, expected)

    def test_geometry_changes_from_v1_to_it(self, truth: SyntheticTruth) -> None:
        ids = np.arange(len(truth.shared_latents))
        upper = np.triu_indices(len(ids), 1)

        def similarity(region: str) -> np.ndarray:
            latents = region_latents(truth, region, ids)
            return (latents @ latents.T)[upper]

        pairs = [("V1", "V2"), ("V2", "V4"), ("V4", "IT"), ("V1", "IT")]
        found = [np.corrcoef(similarity(a), similarity(b))[0, 1] for a, b in pairs]
        assert found == sorted(found, reverse=True)
        assert min(-np.diff(found)) > 0.08

    def test_a_folder_without_truth_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputFileError, match="no complete synthetic dataset"):
            read_truth(tmp_path)

    def test_the_dataset_says_where_its_truth_is(self, official: Path) -> None:
        files = open_dataset(official).truth_files
        assert sorted(files) == sorted((official / "truth").glob("*.npz"))

    def test_a_folder_named_truth_says_nothing(self, tmp_path: Path) -> None:
        for folder in ("truth", "nsddata"):
            (tmp_path / folder).mkdir()
        assert open_dataset(tmp_path).truth_files == []
        description = {"name": "mine", "trials_per_session": 30, "sessions": {"1": 6}}
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        assert open_dataset(tmp_path).truth_files == []


class TestWriting:
    def test_same_seed_same_bytes_another_seed_other_bytes(
        self, official: Path, tmp_path: Path
    ) -> None:
        write_synthetic_nsd(tmp_path / "again", scale="tiny", seed=SEED)
        assert digests(tmp_path / "again") == digests(official)
        write_synthetic_nsd(tmp_path / "other", scale="tiny", seed=SEED + 1)
        other = digests(tmp_path / "other")
        same = {name for name, digest in digests(official).items() if other[name] == digest}
        assert not any("betas" in name or "design" in name for name in same)

    def test_a_subject_is_the_same_whichever_others_are_written(
        self, official: Path, tmp_path: Path
    ) -> None:
        write_synthetic_nsd(tmp_path / "one", scale="tiny", seed=SEED, subjects=[2])
        one, all_of_them = digests(tmp_path / "one"), digests(official)
        differing = {name for name in one if one[name] != all_of_them[name]}
        assert differing == {"dataset.json"}
        assert not any("subj01" in name for name in one)

    @pytest.mark.parametrize("scale", PLANS)
    def test_every_plan_travels_to_other_processes(self, scale: str) -> None:
        assert pickle.loads(pickle.dumps(PLANS[scale])) == PLANS[scale]

    @pytest.mark.slow
    def test_processes_do_not_change_the_bytes(self, official: Path, tmp_path: Path) -> None:
        calls: list[tuple[str, int, int]] = []
        write_synthetic_nsd(
            tmp_path / "root",
            scale=replace(PLANS["tiny"], processes=2),
            seed=SEED,
            progress=lambda what, done, total: calls.append((what, done, total)),
        )
        assert digests(tmp_path / "root") == digests(official)
        assert calls[-1] == ("session files", 51, 51)

    def test_both_layouts_hold_the_same_files(self, official: Path, tmp_path: Path) -> None:
        root = tmp_path / "flat"
        write_synthetic_nsd(root, scale="tiny", layout="flat", seed=SEED)
        pairs = {
            "metadata/nsd_expdesign.mat": "nsddata/experiments/nsd/nsd_expdesign.mat",
            "metadata/nsd_stim_info_merged.csv": (
                "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
            ),
            "stimuli/nsd_stimuli.hdf5": "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
        }
        for subject in SESSIONS:
            flat = f"subj{subject:02d}"
            for path in betas_folder(official, subject).iterdir():
                pairs[f"{flat}/betas/{path.name}"] = str(path.relative_to(official))
            for path in roi_folder(official, subject).iterdir():
                pairs[f"{flat}/rois/{path.name}"] = str(path.relative_to(official))
        for flat, other in pairs.items():
            assert (root / flat).read_bytes() == (official / other).read_bytes()
        rest = {name for name in digests(root) if not name.startswith("truth/")} - set(pairs)
        assert rest == {"dataset.json"}

    @pytest.mark.parametrize("storage", ["contiguous", "gzip", "trial_chunks", "odd_chunks"])
    def test_storage_forms_hold_the_same_data(
        self, official: Path, tmp_path: Path, storage: str
    ) -> None:
        write_synthetic_nsd(tmp_path / "root", seed=SEED, storage=storage, subjects=[5])
        with h5py.File(betas_folder(tmp_path / "root", 5) / "betas_session03.hdf5") as file:
            betas, chunks, compression = file["betas"][:], file["betas"].chunks, file["betas"]
            compression = compression.compression
        expected = {
            "contiguous": (None, None),
            "gzip": ((30, 1, 1, 1), "gzip"),
            "trial_chunks": ((1, *betas.shape[1:]), None),
            "odd_chunks": ((7, 4, 3, 5), None),
        }
        assert (chunks, compression) == expected[storage]
        np.testing.assert_array_equal(betas.reshape(TRIALS, -1), all_betas(official, 5, 3)[2])

    def test_full_sessions_have_every_chunk_and_the_same_labelled_voxels(
        self, official: Path, truth: SyntheticTruth, tmp_path: Path
    ) -> None:
        root = tmp_path / "root"
        write_synthetic_nsd(root, seed=SEED, subjects=[1, 5], full_sessions=[(1, 2)])
        grid = PLANS["tiny"].subjects[1].grid
        with h5py.File(betas_folder(root, 1) / "betas_session02.hdf5") as file:
            assert file["betas"].id.get_num_chunks() == np.prod(grid)
            offsets = [
                file["betas"].id.get_chunk_info(number).byte_offset
                for number in range(np.prod(grid))
            ]
            assert offsets == sorted(offsets)
            betas = file["betas"][:].reshape(TRIALS, -1)
        voxels = truth.subjects[1].voxel_index
        np.testing.assert_array_equal(betas[:, voxels], all_betas(official, 1, 2)[1][:, voxels])
        brain = volume(roi_folder(root, 1).parent / "brainmask.nii.gz").transpose(2, 1, 0).ravel()
        background = np.setdiff1d(np.flatnonzero(brain), voxels)
        assert not betas[:, brain == 0].any()
        assert (betas[:, background].std(axis=0) > 30).all()
        other = "subj05/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session02.hdf5"
        other = f"nsddata_betas/ppdata/{other}"
        assert (root / other).read_bytes() == (official / other).read_bytes()

    def test_ncsnr_is_known_in_the_whole_brain_where_every_session_is_full(
        self, official: Path, tmp_path: Path
    ) -> None:
        root = tmp_path / "root"
        full = [(5, session) for session in range(1, 6)]
        write_synthetic_nsd(root, seed=SEED, subjects=[5], full_sessions=full)
        ncsnr = volume(betas_folder(root, 5) / "ncsnr.nii.gz")
        of_labelled = volume(betas_folder(official, 5) / "ncsnr.nii.gz")
        known = ~np.isnan(of_labelled)
        np.testing.assert_array_equal(ncsnr[known], of_labelled[known])
        brain = volume(roi_folder(root, 5).parent / "brainmask.nii.gz") == 1
        labelled = volume(roi_folder(root, 5) / "HCP_MMP1.nii.gz") > 0
        assert not np.isnan(ncsnr[brain & ~labelled]).any()
        assert np.median(ncsnr[brain & ~labelled]) < 0.3

    def test_own_plans_can_be_written(self, tmp_path: Path) -> None:
        base = PLANS["tiny"].subjects[1]
        plan = SyntheticPlan(
            name="odd",
            trials_per_session=13,
            images_per_subject=26,
            subjects={4: replace(base, grid=(12, 10, 11), sessions=6)},
            shared_repetitions={(3,): 5},
            image_size=(4, 6),
        )
        truth = write_synthetic_nsd(tmp_path / "root", scale=plan, layout="flat")
        assert list(truth.subjects) == [4]
        with h5py.File(tmp_path / "root/subj04/betas/betas_session06.hdf5") as file:
            assert file["betas"].shape == (13, 11, 10, 12)

    def test_a_folder_with_hidden_files_alone_is_empty(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        root.mkdir()
        (root / ".DS_Store").write_text("of the system")
        write_synthetic_nsd(root, scale="tiny")
        assert (root / "dataset.json").exists()
        assert (root / ".DS_Store").read_text() == "of the system"

    def test_an_existing_folder_is_left_alone(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        root.mkdir()
        (root / "file").write_text("mine")
        with pytest.raises(OutputError, match="not an empty folder"):
            write_synthetic_nsd(root)
        assert [path.name for path in tmp_path.rglob("*")] == ["root", "file"]

    def test_an_empty_folder_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "root").mkdir()
        write_synthetic_nsd(tmp_path / "root", subjects=[2])
        assert (tmp_path / "root" / "dataset.json").is_file()

    def test_nothing_is_left_when_writing_stops(self, tmp_path: Path) -> None:
        def stop(_what: str, done: int, _total: int) -> None:
            if done == 3:
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            write_synthetic_nsd(tmp_path / "root", progress=stop)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"scale": "huge"}, "no scale 'huge': give one of .* with scale="),
            ({"layout": "round"}, "no layout 'round': give official or flat with layout="),
            ({"storage": "zip"}, "no storage 'zip': give one of .* with storage="),
            ({"seed": -1}, "seed -1 is negative: give 0 or more with seed="),
            ({"subjects": [3]}, r"subjects \[3\] cannot be written: expected some of \[1, 2, 5\]"),
            ({"subjects": [1, 1]}, r"subjects \[1, 1\] cannot be written: .*each once"),
            ({"subjects": []}, r"subjects \[\] cannot be written"),
            ({"experiments": ["rest"]}, "no experiment 'rest': give some of imagery, synthetic"),
            ({"full_sessions": [(5, 6)]}, "subject 5, session 6"),
            ({"subjects": [1], "full_sessions": [(2, 1)]}, "subject 2, session 1"),
        ],
    )
    def test_impossible_choices_are_refused(
        self, tmp_path: Path, arguments: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ParameterError, match=message):
            write_synthetic_nsd(tmp_path / "root", **arguments)
        assert list(tmp_path.iterdir()) == []


#: Writes a dataset into sys.argv[1], in two processes, and stops for good after the first file.
STOPS = """
import sys, time
from dataclasses import replace
from pathlib import Path
from nsd_prep.synthetic import PLANS, write_synthetic_nsd

def stop(what, done, total):
    if done:
        print(done, flush=True)
        time.sleep(600)

plan = replace(PLANS["tiny"], processes=int(sys.argv[2]))
write_synthetic_nsd(Path(sys.argv[1]), scale=plan, progress=stop)  # needs no guard
"""


@pytest.mark.slow
def test_cores_do_not_change_the_bytes(tmp_path: Path) -> None:
    found = []
    for cores in ("1", "2"):
        root = tmp_path / cores
        command = [sys.executable, "-m", "nsd_prep", "synth", str(root), "--scale", "demo"]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": cores, "OMP_NUM_THREADS": cores}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        found.append(digests(root))
        shutil.rmtree(root)
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failure_leaves_the_processes_of_the_caller(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def fail(*_of_it: Any) -> None:
        raise error

    plan = replace(PLANS["tiny"], processes=2)
    own = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    own.start()
    try:
        with pytest.raises(error):
            write_synthetic_nsd(tmp_path / "nsd", scale=plan, progress=fail)
        assert own.is_alive()
        assert list(tmp_path.iterdir()) == []
    finally:
        own.kill()
        own.join()


class TestKilled:
    @pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.slow)])
    def test_what_a_killed_process_left_is_removed(self, tmp_path: Path, processes: str) -> None:
        script, root = tmp_path / "stops.py", tmp_path / "data" / "nsd"
        script.write_text(STOPS)
        words = [sys.executable, str(script), str(root), processes]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as stopped:
            assert stopped.stdout is not None
            assert stopped.stdout.readline()
            children = psutil.Process(stopped.pid).children(recursive=True)
            stopped.kill()
        gone, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
        assert processes == "1" or len(gone) >= 2
        (left,) = root.parent.iterdir()
        assert left.is_dir()
        assert any(left.rglob("*.hdf5"))
        other = root.parent / left.name.replace(".nsd.", ".nsd.b.")
        left_alone = [root.parent / ".nsd.mine.partial", other]
        for path in left_alone:
            path.mkdir()
        write_synthetic_nsd(root, subjects=[2])
        assert sorted(root.parent.iterdir()) == sorted([root, *left_alone])

    def test_beside_an_output_folder_too(self, tmp_path: Path) -> None:
        script = "import os, sys; from pathlib import Path\n"
        script += "from nsd_prep.core.atomic import partial_path"
        script += "; partial_path(Path(sys.argv[1])).mkdir()"
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "synthetic-nsd")], check=True)
        (tmp_path / "synthetic-nsd").mkdir()
        (tmp_path / "synthetic-nsd" / "dataset.json").write_text("{}")
        assert len(list(tmp_path.iterdir())) == 2
        assert synthetic_beside(tmp_path / "out") == tmp_path / "synthetic-nsd"
        assert [path.name for path in tmp_path.iterdir()] == ["synthetic-nsd"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": {9: PLANS["tiny"].subjects[1]}}, "1..8"),
        ({"images_per_subject": 61}, "whole number"),
        ({"images_per_subject": 50}, "enough for"),
        ({"shared_repetitions": {(3,): 5}}, "session counts"),
        ({"shared_repetitions": {(3, 3): 61}}, "more than the 60"),
    ],
)
def test_impossible_plans_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        replace(PLANS["tiny"], **change)
