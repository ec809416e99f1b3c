"""Exports: each read as a paper's code reads it, and compared with the raw betas."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from blake3 import blake3
from earlier_versions import state_sha256_in_manifest
from single_trials_inputs import Subject
from small_nsd import SmallNSD, write_small_nsd

import nsd_prep
from nsd_prep.core.digests import sampled_sha256, sha256_of_json
from nsd_prep.core.errors import (
    FailedChecksError,
    InputFileError,
    MissingFilesError,
    OutputError,
    ParameterError,
)
from nsd_prep.exports import LIKES, export_trials
from nsd_prep.exports.folder import opened_export
from nsd_prep.exports.labels import ATLASES
from nsd_prep.exports.manifest import OF_A_RUN
from nsd_prep.flows.command import main
from nsd_prep.notebook import open_nsd
from nsd_prep.pipeline.earlier import UNFINISHED
from nsd_prep.pipeline.locks import only_run_in
from nsd_prep.single_trials import open_single_trials
from nsd_prep.single_trials.subject import SingleTrialOptions, write_single_trials_of_subject
from nsd_prep.single_trials.writer import write_rows
from nsd_prep.synthetic.formats import write_pictures
from nsd_prep.synthetic.labels import LABEL_NAMES

SUBJECT = 1
#: Exports trials into a folder, and is killed when some files have been written.
KILLED = """
import os, sys
from nsd_prep.exports import export_trials

n_written = 0
replace = os.replace

def replaced(*arguments):
    global n_written
    replace(*arguments)
    n_written += not str(arguments[1]).endswith("manifest.json")
    if n_written == int(sys.argv[3]):
        os._exit(9)

os.replace = replaced
export_trials(sys.argv[1], sys.argv[2], "algonauts2023")
"""
#: Exports trials into a folder, and waits for a line while it writes.
WAITING = """
import sys
from nsd_prep.exports import export_trials, mindeye2

write_text = mindeye2.write_text

def waiting(*arguments):
    mindeye2.write_text = write_text
    print("writing", flush=True)
    sys.stdin.readline()
    write_text(*arguments)

mindeye2.write_text = waiting
export_trials(sys.argv[1], sys.argv[2], "mindeye2")
"""


def masked(small: SmallNSD, session: int) -> np.ndarray:
    """Return a session's stored betas (n_trials, n_voxels) as a NIfTI mask of nsdgeneral gives."""
    mask = nibabel.load(small.roi_path(SUBJECT, "nsdgeneral")).get_fdata() > 0
    return small.betas[SUBJECT, session][:, mask]


def shown(small: SmallNSD, subject: int = SUBJECT) -> list[int]:
    """Return the 0-based image of each trial."""
    n_trials = small.sessions[subject] * small.trials_per_session
    return [
        small.subjectim[subject - 1][image - 1] - 1 for image in small.masterordering[:n_trials]
    ]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of images, each another one."""
    n_images = 16 + 8 * 16
    values = np.arange(n_images * 4 * 5 * 3) % 251
    path = tmp_path_factory.mktemp("images") / "nsd_stimuli.hdf5"
    write_pictures(path, values.reshape(n_images, 4, 5, 3).astype(np.uint8))
    return path


def written(small: SmallNSD, folder: Path, normalise: str, **options: object) -> Path:
    """Write single trials of the subject, of V1, IT and nsdgeneral."""
    subject = Subject.load(small, SUBJECT)
    path, _ = write_single_trials_of_subject(
        folder,
        SUBJECT,
        subject.sessions(),
        subject.trials,
        subject.voxels,
        SingleTrialOptions(normalise=normalise, **options),
        subject.space.attributes() | {"dataset": "small", "preparation": "b3"},
    )
    return path


@pytest.fixture(scope="module")
def zscored(official: SmallNSD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(official, tmp_path_factory.mktemp("zscored"), "session")


@pytest.fixture(scope="module")
def percent(official: SmallNSD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(official, tmp_path_factory.mktemp("percent"), "none")


def with_attributes(path: Path, folder: Path, **attributes: str) -> Path:
    """Return a copy of single trials that says other things of itself."""
    copy = Path(shutil.copy(path, folder / "subj01.nc"))
    with h5py.File(copy, "a") as file:
        file.attrs.update(attributes)
    return copy


def as_version_0_4(folder: Path, *trials: Path) -> None:
    """Let the manifest of an export of some trials say what version 0.4 said."""
    path = folder / "manifest.json"
    listed = json.loads(path.read_text())
    del listed["subjects"]
    samples = [sampled_sha256(one) for one in trials]
    of_trials = sha256_of_json(samples) if listed["like"] == "deepnsd" else samples[0]
    for name, entry in listed["outputs"].items():
        for key in ("subjects", "design", "images", "tables", "state"):
            entry.pop(key, None)
        content = entry.pop("content")
        entry["source"] = content if name == "README.md" else of_trials
    path.write_text(json.dumps(listed))


class TestMindEye2:
    def test_all_trials_zscored_in_the_order_of_a_nifti_mask(
        self, official: SmallNSD, zscored: Path, tmp_path: Path
    ) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        with h5py.File(tmp_path / "betas_all_subj01_fp32_renorm.hdf5", "r") as file:
            assert list(file) == ["betas"]
            betas = file["betas"][:]
        assert betas.dtype == np.float32
        expected = []
        for session in range(1, 5):
            values = np.asfortranarray(
                masked(official, session).astype(np.float32) / np.float32(300)
            )
            deviation = values.std(axis=0)
            constant = (values == values[0]).all(axis=0)
            with np.errstate(invalid="ignore", divide="ignore"):
                zscores = (values - values.mean(axis=0)) / deviation
            zscores[:, constant] = 0
            expected.append(zscores)
        np.testing.assert_array_equal(betas, np.concatenate(expected))
        table = pd.read_csv(tmp_path / "trials_subj01.csv", index_col="trial")
        assert table["nsd_id"].tolist() == shown(official)
        voxels = pd.read_csv(tmp_path / "voxels_subj01.csv")
        mask = official.labels[SUBJECT, "nsdgeneral"] > 0
        assert voxels[["nifti_i", "nifti_j", "nifti_k"]].to_numpy().tolist() == (
            np.argwhere(mask).tolist()
        )

    def test_the_readme_has_the_numbers_of_these_data(self, zscored: Path, tmp_path: Path) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        text = (tmp_path / "README.md").read_text()
        assert "z-scores over the 24 trials of each session" in text
        assert re.search(r"subject 1: small, b3, 96 trials, \d+ voxels\n", text)

    def test_same_trials_same_bytes(self, zscored: Path, tmp_path: Path) -> None:
        first = export_trials(zscored, tmp_path / "first", "mindeye2")
        second = export_trials(zscored, tmp_path / "second", "mindeye2")
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.fixture(scope="module")
def diffuser(percent: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the export like brain-diffuser."""
    target = tmp_path_factory.mktemp("brain-diffuser")
    export_trials(percent, target, "brain-diffuser", images=pictures)
    return target


class TestBrainDiffuser:
    @pytest.mark.parametrize("part", ["train", "test"])
    def test_means_and_images(
        self, official: SmallNSD, diffuser: Path, pictures: Path, part: str
    ) -> None:
        # Of four sessions the first alone lies before the last three.
        trials_of: dict[int, list[int]] = {}
        for trial, nsd_id in enumerate(shown(official)[:24]):
            if (nsd_id + 1 in official.sharedix) == (part == "test"):
                trials_of.setdefault(nsd_id, []).append(trial)
        betas = masked(official, 1).astype(np.float32)
        means = np.load(diffuser / f"subj01/nsd_{part}_fmriavg_nsdgeneral_sub1.npy")
        assert means.dtype == np.float64
        expected = np.zeros((len(trials_of), betas.shape[1]))
        for row, trials in enumerate(trials_of.values()):
            expected[row] = betas[sorted(trials)].mean(0)
        assert max(map(len, trials_of.values())) > 1
        np.testing.assert_array_equal(means, expected)
        with h5py.File(pictures, "r") as file:
            brick = file["imgBrick"][:]
        images = np.load(diffuser / f"subj01/nsd_{part}_stim_sub1.npy")
        np.testing.assert_array_equal(images, brick[list(trials_of)])
        table = pd.read_csv(diffuser / f"subj01/nsd_{part}_images_sub1.csv", index_col="row")
        assert table["nsd_id"].tolist() == list(trials_of)
        assert table["n_repetitions"].tolist() == [len(rows) for rows in trials_of.values()]

    def test_bytes_are_those_of_numpy(self, diffuser: Path, tmp_path: Path) -> None:
        path = diffuser / "subj01/nsd_train_fmriavg_nsdgeneral_sub1.npy"
        np.save(tmp_path / "again.npy", np.load(path))
        assert path.read_bytes() == (tmp_path / "again.npy").read_bytes()

    def test_without_images_there_are_none_and_the_readme_says_so(
        self, percent: Path, diffuser: Path, tmp_path: Path
    ) -> None:
        export_trials(percent, tmp_path, "brain-diffuser")
        assert not list(tmp_path.rglob("*stim*"))
        assert "no images were given" in (tmp_path / "README.md").read_text()
        assert "no images were given" not in (diffuser / "README.md").read_text()

    def test_the_readme_counts_the_test_images_of_these_data(
        self, official: SmallNSD, diffuser: Path
    ) -> None:
        shared = {image - 1 for image in official.sharedix}
        seen = [shared & set(trials) for trials in (shown(official)[:24], shown(official))]
        text = " ".join((diffuser / "README.md").read_text().split())
        assert f": {len(seen[0])} of the {len(seen[1])} that subject 1 saw." in text
        assert "982" not in text


class TestDeepNSD:
    def test_tables_of_two_subjects(self, tiny_nsd: Path, tmp_path: Path) -> None:
        nsd = open_nsd(tiny_nsd, cache_dir=tmp_path / "cache")
        nsd.export("deepnsd", tmp_path / "out", subjects=[2, 1])
        betas = pd.read_csv(tmp_path / "out/voxel_betas.csv").set_index("voxel_id")
        metadata = pd.read_csv(tmp_path / "out/voxel_metadata.csv").set_index("voxel_id")
        stimuli = pd.read_csv(tmp_path / "out/shared1000.csv")
        assert betas.index.equals(metadata.index)
        assert metadata["subj_id"].drop_duplicates().tolist() == [1, 2]
        assert {"V1v", "hV4", "FFA-1", "EBA", "ventral"} < set(metadata)
        assert np.isin(metadata["V1v"], [0, 1]).all()
        assert metadata["V1v"].sum() > 10
        nsd_ids = [int(column) for column in betas.columns]
        assert stimuli["nsd_id"].tolist() == nsd_ids == sorted(nsd_ids)
        for subject in (1, 2):
            # By hand: the voxel's own chunk of each session, z-scored and averaged.
            own = metadata[(metadata["subj_id"] == subject) & (metadata["V1v"] == 1)].index[3]
            _, i, j, k = (int(part) for part in own[1:].split("-"))
            assert own.startswith(f"S{subject}-")
            zscores = []
            for path in sorted(tiny_nsd.rglob(f"ppdata/subj0{subject}/*/*/betas_session*.hdf5")):
                with h5py.File(path, "r") as file:
                    values = file["betas"][:, k, j, i].astype(np.float64) / 300
                deviation = values.std() or 1.0  # no data in this session
                zscores += ((values - values.mean()) / deviation).tolist()
            trials = nsd.trials(subject)["nsd_id"].to_numpy()
            expected = [np.mean(np.array(zscores)[trials == nsd_id]) for nsd_id in nsd_ids]
            np.testing.assert_allclose(betas.loc[own], expected, atol=2e-6)

    def test_names_of_labels_are_those_of_the_datasets_tables(self) -> None:
        for atlas, names in ATLASES.items():
            assert tuple(LABEL_NAMES[atlas].values()) == names


#: Vertices of the left and of the right hemisphere.
VERTICES = (30, 25)
SURFACE_SESSIONS, SURFACE_TRIALS = 5, 12


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, np.ndarray]:
    """Write percent signal change of vertices, and return the file, its trials and the values."""
    rng = np.random.default_rng(5)
    n_trials = SURFACE_SESSIONS * SURFACE_TRIALS
    nsd_id = rng.permutation(np.repeat(np.arange(20), 3)) * 7
    session = np.repeat(np.arange(SURFACE_SESSIONS) + 1, SURFACE_TRIALS)
    early = set(nsd_id[session <= 2].tolist())
    split = np.where(session <= 2, "train", "unused").astype(object)
    split[[one not in early for one in nsd_id]] = "test"
    trials = pd.DataFrame(
        {"nsd_id": nsd_id, "session": session, "is_shared": False, "algonauts2023": split}
    ).rename_axis(index="trial")
    side = np.repeat(["lh", "rh"], [20, 15])
    vertex = np.concatenate([np.arange(20) + 5, np.arange(15) + 3])
    sites = pd.DataFrame(
        {
            "hemisphere": side.astype(object),
            "vertex_index": vertex,
            "ncsnr": rng.random(35).astype(np.float32),
            "in_nsdgeneral": np.arange(35) % 5 != 0,
            "in_V1v": np.arange(35) % 7 == 1,
            "in_hV4": np.arange(35) % 7 == 2,
            "in_EBA": np.arange(35) == 3,
        }
    ).rename_axis(index="voxel")
    values = rng.normal(size=(n_trials, 35)).astype(np.float32)
    values[session == 2, 4] = 0  # no data
    path = tmp_path_factory.mktemp("surface") / "subj01.nc"
    attributes = {
        "subject": 1,
        "normalisation": "none",
        "images": "all",
        "averaged": 0,
        "space": "fsaverage",
        "vertices": list(VERTICES),
    }
    write_rows(path, [values], trials, sites, attributes=attributes)
    return path, trials.join(pd.DataFrame(index=trials.index)), values


class TestAlgonauts2023:
    def test_files_are_the_challenges(
        self, surface: tuple[Path, pd.DataFrame, np.ndarray], tmp_path: Path
    ) -> None:
        path, trials, values = surface
        export_trials(path, tmp_path, "algonauts2023")
        zscores = np.concatenate(
            [
                (block - block.mean(axis=0)) / np.where(block.std(axis=0) > 0, block.std(axis=0), 1)
                for block in np.split(values.astype(np.float64), SURFACE_SESSIONS)
            ]
        )
        root = tmp_path / "subj01"
        chosen = [one for one in range(35) if one % 5 and one != 4]
        for side, first, last, shift in (("lh", 0, 20, 5), ("rh", 20, 35, 3)):
            columns = [one for one in chosen if first <= one < last]
            for part, folder in (("train", "training"), ("test", "test")):
                rows = trials["algonauts2023"] == part
                ids = sorted(set(trials.loc[rows, "nsd_id"]))
                got = np.load(root / f"{folder}_split/{folder}_fmri/{side}_{folder}_fmri.npy")
                assert got.dtype == np.float32
                expected = [
                    zscores[(rows & (trials["nsd_id"] == one)).to_numpy()][:, columns].mean(axis=0)
                    for one in ids
                ]
                np.testing.assert_array_equal(got, np.array(expected, dtype=np.float32))
                listed = pd.read_csv(root / f"{folder}_images.csv")["nsd_id"]
                assert listed.tolist() == ids
            masks = root / "roi_masks"
            everything = np.load(masks / f"{side}.all-vertices_fsaverage_space.npy")
            assert np.flatnonzero(everything).tolist() == [one - first + shift for one in columns]
            labels = np.load(masks / f"{side}.prf-visualrois_challenge_space.npy")
            assert labels.tolist() == [{1: 1, 2: 7}.get(one % 7, 0) for one in columns]
            on_surface = np.load(masks / f"{side}.prf-visualrois_fsaverage_space.npy")
            assert len(on_surface) == VERTICES[side == "rh"]
            assert on_surface[everything == 1].tolist() == labels.tolist()
        mapping = np.load(masks / "mapping_prf-visualrois.npy", allow_pickle=True).item()
        assert mapping[0] == "Unknown"
        assert mapping[7] == "hV4"
        assert not (masks / "mapping_streams.npy").exists()

    def test_from_a_dataset_it_is_what_the_files_of_fsaverage_give(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        options = {"space": "fsaverage", "surface_files": "mgh"}
        nsd = open_nsd(tiny_nsd, cache_dir=tmp_path / "cache", **options)
        nsd.export("algonauts2023", tmp_path / "out", subjects=[1])
        root = tmp_path / "out" / "subj01"
        folder = tiny_nsd / "nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR"
        trials = nsd.trials(1)
        nsd_id, session = trials["nsd_id"].to_numpy(), trials["session"].to_numpy()
        for side in ("lh", "rh"):
            mask = np.load(root / f"roi_masks/{side}.all-vertices_fsaverage_space.npy")
            zscores = []
            for number in range(1, 7):
                path = folder / f"{side}.betas_session{number:02d}.mgh"
                values = np.asarray(nibabel.load(path).dataobj)[:, 0, 0].T.astype(float)
                own = values[:, mask == 1]
                zscores.append((own - own.mean(axis=0)) / own.std(axis=0))
            stacked = np.concatenate(zscores)
            for part, name in (("training", session <= 3), ("test", session > 3)):
                ids = pd.read_csv(root / f"{part}_images.csv")["nsd_id"]
                expected = [stacked[(nsd_id == one) & name].mean(axis=0) for one in ids]
                got = np.load(root / f"{part}_split/{part}_fmri/{side}_{part}_fmri.npy")
                np.testing.assert_allclose(got, expected, atol=1e-5)
            label = tiny_nsd / f"nsddata/freesurfer/fsaverage/label/{side}.nsdgeneral.mgz"
            nsdgeneral = np.asarray(nibabel.load(label).dataobj).ravel() > 0
            assert 0 < mask.sum() <= nsdgeneral.sum()
            assert not (mask.astype(bool) & ~nsdgeneral).any()

    def test_noise_ceiling_is_that_of_the_test_images(
        self, surface: tuple[Path, pd.DataFrame, np.ndarray], tmp_path: Path
    ) -> None:
        path, trials, _ = surface
        export_trials(path, tmp_path, "algonauts2023")
        times = trials.loc[trials["algonauts2023"] == "test", "nsd_id"].value_counts()
        ceiling = np.load(tmp_path / "subj01/test_split/noise_ceiling/lh_noise_ceiling.npy")
        term = (1 / times).mean()
        assert ((ceiling > 0) & (ceiling < 1 / (1 + term))).all()

    def test_volumes_are_refused(self, percent: Path, tmp_path: Path, tiny_nsd: Path) -> None:
        with pytest.raises(ParameterError, match="in the space fsaverage, found func1pt8mm"):
            export_trials(percent, tmp_path / "out", "algonauts2023")
        with pytest.raises(ParameterError, match="in the space fsaverage, found func1pt8mm"):
            open_nsd(tiny_nsd, cache_dir=tmp_path / "cache").export("algonauts2023", tmp_path)


class TestResuming:
    def test_what_is_there_is_not_made_again(self, zscored: Path, tmp_path: Path) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*")}
        export_trials(zscored, tmp_path, "mindeye2")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*")} == before
        (tmp_path / "betas_all_subj01_fp32_renorm.hdf5").unlink()
        export_trials(zscored, tmp_path, "mindeye2")
        assert (tmp_path / "betas_all_subj01_fp32_renorm.hdf5").exists()

    @pytest.mark.parametrize("like", ["mindeye2", "deepnsd"])
    def test_trials_of_which_only_a_table_differs_are_exported_again(
        self, zscored: Path, tmp_path: Path, like: str
    ) -> None:
        trials = Path(shutil.copy(zscored, tmp_path / "subj01.nc"))
        export_trials(trials, tmp_path / "out", like)
        with h5py.File(trials, "a") as file:
            file["voxel_x"][:] = file["voxel_x"][:][::-1]
            file["session"][:] = file["session"][:][::-1]
        export_trials(trials, tmp_path / "out", like)
        export_trials(trials, tmp_path / "fresh", like)
        assert content(tmp_path / "out") == content(tmp_path / "fresh")

    @pytest.mark.parametrize("like", ["mindeye2", "deepnsd"])
    def test_an_export_of_version_0_4_is_not_made_again(
        self, zscored: Path, tmp_path: Path, like: str
    ) -> None:
        export_trials(zscored, tmp_path, like)
        state_sha256_in_manifest(tmp_path)
        as_version_0_4(tmp_path, zscored)

        def times() -> dict[Path, int]:
            files = (path for path in tmp_path.glob("[!.]*") if path.name != "manifest.json")
            return {path: path.stat().st_mtime_ns for path in files}

        before = times()
        export_trials(zscored, tmp_path, like)
        assert times() == before
        (tmp_path / "README.md").write_text("mine")
        with pytest.raises(ParameterError, match="was not written by an export"):
            export_trials(zscored, tmp_path, like)

    def test_an_interrupted_export_leaves_nothing_half_written(
        self, percent: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = "nsd_prep.exports.brain_diffuser._write_images"
        monkeypatch.setattr(module, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export_trials(percent, tmp_path, "brain-diffuser", images=pictures)
        made = json.loads((tmp_path / "manifest.json").read_text())["outputs"]
        there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*.*")}
        assert there == {*made, "manifest.json"}
        monkeypatch.undo()
        kept = tmp_path / "subj01/nsd_train_fmriavg_nsdgeneral_sub1.npy"
        time = kept.stat().st_mtime_ns
        export_trials(percent, tmp_path, "brain-diffuser", images=pictures)
        assert kept.stat().st_mtime_ns == time

    @pytest.mark.slow
    @pytest.mark.parametrize("n_written", [1, 6])
    @pytest.mark.parametrize("other_trials", [False, True], ids=["the same", "other trials"])
    def test_a_killed_export_resumes(
        self,
        surface: tuple[Path, pd.DataFrame, np.ndarray],
        tmp_path: Path,
        n_written: int,
        other_trials: bool,
    ) -> None:
        path, target = shutil.copy(surface[0], tmp_path), tmp_path / "out"
        expected = tmp_path / "expected"
        if other_trials:  # of which there is an export already
            export_trials(path, target, "algonauts2023")
            with h5py.File(path, "a") as file:
                file["response"][...] = np.abs(file["response"][...])
        export_trials(path, expected, "algonauts2023")
        done = subprocess.run([sys.executable, "-c", KILLED, path, target, str(n_written)])
        assert done.returncode == 9
        mine = target / "mine.txt"
        mine.write_text("mine")
        export_trials(path, target, "algonauts2023")
        names = {str(file.relative_to(expected)) for file in expected.rglob("*") if file.is_file()}
        for name in names:
            assert (target / name).read_bytes() == (expected / name).read_bytes()
        there = {str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()}
        assert there == names | {"mine.txt"}

    def test_what_a_failed_export_wrote_of_its_files_is_removed(
        self, surface: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail = lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error"))  # noqa: E731
        monkeypatch.setattr("nsd_prep.exports.algonauts2023._write_masks", fail)
        with pytest.raises(OSError, match="Input/output error"):
            export_trials(surface[0], tmp_path / "out", "algonauts2023")
        assert not [file for file in tmp_path.rglob("*") if file.is_file()]
        monkeypatch.undo()
        export_trials(surface[0], tmp_path / "out", "algonauts2023")

    def test_files_of_others_stay(self, zscored: Path, percent: Path, tmp_path: Path) -> None:
        other = tmp_path / "trials_subj01.csv"
        other.write_text("mine")
        with pytest.raises(ParameterError, match="was not written by an export"):
            export_trials(zscored, tmp_path, "mindeye2")
        assert other.read_text() == "mine"
        other.unlink()
        export_trials(zscored, tmp_path, "mindeye2")
        with pytest.raises(ParameterError, match="holds an export like mindeye2"):
            export_trials(percent, tmp_path, "brain-diffuser")
        other.write_text("changed")
        with pytest.raises(ParameterError, match="was not written by an export"):
            export_trials(zscored, tmp_path, "mindeye2")

    def test_a_full_disk_leaves_no_file(
        self, zscored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("nsd_prep.exports.files.Rows.append", full)
        with pytest.raises(OutputError, match="the disk is full"):
            export_trials(zscored, tmp_path, "mindeye2")
        assert not list(tmp_path.glob("*.hdf5"))
        assert not (tmp_path / "manifest.json").exists()


def of_subject(path: Path, folder: Path, subject: int, **attributes: str) -> Path:
    """Return a copy of single trials that is another subject's, or says other things."""
    folder.mkdir(parents=True)
    return with_attributes(path, folder, subject=subject, **attributes)


def content(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, but not what is hidden."""
    files = [path for path in folder.rglob("[!.]*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class TestSeveralCalls:
    """Exports into one folder, one after the other."""

    def test_a_file_of_all_subjects_loses_none(self, zscored: Path, tmp_path: Path) -> None:
        second = of_subject(zscored, tmp_path / "second", 2)
        third = of_subject(zscored, tmp_path / "third", 3)
        out = tmp_path / "out"
        export_trials([zscored, second], out, "deepnsd")
        before = content(out)
        for others, lost, all_subjects in (
            ([second], 1, [1, 2]),
            ([zscored, third], 2, [1, 2, 3]),
        ):
            with pytest.raises(ParameterError) as raised:
                export_trials(others, out, "deepnsd")
            assert f"holds subject {lost} in files of all subjects (" in str(raised.value)
            assert f"all subjects together, subjects={all_subjects}" in str(raised.value)
        assert content(out) == before
        export_trials([third, second, zscored], out, "deepnsd")
        metadata = pd.read_csv(out / "voxel_metadata.csv")
        assert metadata["subj_id"].drop_duplicates().tolist() == [1, 2, 3]

    def test_nor_does_one_of_a_version_that_listed_no_subjects(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(zscored, out, "deepnsd")
        as_version_0_4(out, zscored)
        before = content(out)
        with pytest.raises(ParameterError, match="holds subject 1 in files of all subjects"):
            export_trials(of_subject(zscored, tmp_path / "second", 2), out, "deepnsd")
        assert content(out) == before
        times = {path: path.stat().st_mtime_ns for path in out.glob("*.csv")}
        export_trials(zscored, out, "deepnsd")
        assert {path: path.stat().st_mtime_ns for path in out.glob("*.csv")} == times

    def test_it_is_refused_before_anything_is_computed_in_the_words_of_the_command_line(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        cache, out = tmp_path / "cache", tmp_path / "out"
        words = ["export", str(tiny_nsd), str(out), "--like", "deepnsd", "--cache-dir", str(cache)]
        assert main([*words, "--subjects", "1"]) == 0
        monkeypatch.setattr(
            "nsd_prep.pipeline.open_subjects.extract", lambda *_: pytest.fail("extracted")
        )
        capsys.readouterr()
        assert main([*words, "--subjects", "2"]) == 1
        assert "give all subjects together, --subjects 1 2 or" in capsys.readouterr().err
        assert main([*words, "--subjects", "1", "2", "--min-ncsnr", "0.1"]) == 1
        shown = capsys.readouterr().err
        assert "no --min-ncsnr there, --min-ncsnr 0.1 in this export" in shown
        typo = tmp_path / "trials" / "subj1.nc"
        assert main(["export", str(typo), str(tmp_path / "other"), "--like", "deepnsd"]) == 1
        assert f"{typo}: No such file" in capsys.readouterr().err  # and not "the NSD root"

    @pytest.mark.parametrize("like", ["mindeye2", "brain-diffuser", "algonauts2023"])
    def test_subjects_are_added_and_the_readme_describes_them_all(
        self, zscored: Path, percent: Path, surface: tuple, tmp_path: Path, like: str
    ) -> None:
        files = {"mindeye2": zscored, "brain-diffuser": percent, "algonauts2023": surface[0]}
        out, first = tmp_path / "out", files[like]
        second = of_subject(first, tmp_path / "second", 2)
        export_trials(first, out, like)
        before = content(out)
        export_trials(second, out, like)
        after = content(out)
        changed = ("README.md", "manifest.json")
        assert all(after[name] == before[name] for name in before if name not in changed)
        assert len(after) == 2 * len(before) - len(changed)
        readme = (out / "README.md").read_text()
        export_trials([second, first], tmp_path / "both", like)
        assert readme == (tmp_path / "both" / "README.md").read_text()
        assert "- subject 1: " in readme
        assert "- subject 2: " in readme

    def test_of_a_version_without_records_the_readme_keeps_its_words(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(zscored, out, "mindeye2")
        (said,) = re.findall("^- subject 1: .*$", (out / "README.md").read_text(), re.M)
        as_version_0_4(out, zscored)
        export_trials(of_subject(zscored, tmp_path / "second", 2), out, "mindeye2")
        assert f"{said}\n- subject 2: small" in (out / "README.md").read_text()

    def test_the_readme_says_whose_images_are_not_made(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(percent, out, "brain-diffuser", images=pictures)
        export_trials(of_subject(percent, tmp_path / "second", 2), out, "brain-diffuser")
        readme = " ".join((out / "README.md").read_text().split())
        assert (
            "No images were given for subject 2, whose files of images are not written." in readme
        )
        assert "Here no images were given" not in readme

    def test_two_at_once_are_refused(self, zscored: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        export_trials(zscored, out, "mindeye2")
        before = content(out)
        second = of_subject(zscored, tmp_path / "second", 2)
        with (
            only_run_in(out),
            pytest.raises(ParameterError, match="Another export or run is writing into"),
        ):
            export_trials(second, out, "mindeye2")
        assert content(out) == before
        export_trials(second, out, "mindeye2")
        (tmp_path / "new").mkdir()
        with (
            opened_export(tmp_path / "new", "mindeye2"),
            pytest.raises(ParameterError, match="Another run is writing"),
            only_run_in(tmp_path / "new"),
        ):
            pass

    @pytest.mark.slow
    def test_the_second_of_two_processes_exits_and_both_exports_are_whole(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        second, out = of_subject(zscored, tmp_path / "second", 2), tmp_path / "out"
        commands = [[sys.executable, "-c", WAITING, path, out] for path in (zscored, second)]
        with subprocess.Popen(commands[0], stdin=-1, stdout=-1, text=True) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "writing\n"
            done = subprocess.run(commands[1], input="\n", capture_output=True, text=True)
            assert "ParameterError: Another export or run is writing into" in done.stderr
            first.communicate("\n")
        assert first.returncode == 0
        export_trials(second, out, "mindeye2")
        listed = json.loads((out / "manifest.json").read_text())
        assert content(out).keys() == {*listed["outputs"], "manifest.json"}

    def test_what_was_killed_before_it_replaced_a_file_does_not_stay_unfinished(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        manifest = tmp_path / "manifest.json"
        before, listed = manifest.read_bytes(), json.loads(manifest.read_text())
        manifest.write_text(json.dumps(listed | {"unfinished": ["trials_subj01.csv"]}))
        export_trials(zscored, tmp_path, "mindeye2")
        assert manifest.read_bytes() == before

    def test_a_run_that_has_not_ended_is_not_exported_into(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        assert OF_A_RUN == UNFINISHED
        (tmp_path / OF_A_RUN).write_text("{}")
        with pytest.raises(ParameterError, match="what a run wrote that has not ended"):
            export_trials(zscored, tmp_path, "mindeye2")


class TestOtherDatasets:
    """Of the same name."""

    def test_of_a_dataset(self, official: SmallNSD, tmp_path: Path) -> None:
        other = write_small_nsd(tmp_path / "other", seed=1)
        out = tmp_path / "out"
        one, two = (open_nsd(each.root, cache_dir=tmp_path / "c") for each in (official, other))
        one.export("mindeye2", out, subjects=[1])
        before = content(out)
        with pytest.raises(
            ParameterError,
            match=r"holds betas_all_subj01\S+ from another dataset.*subjects=\[1, 2\]",
        ):
            two.export("mindeye2", out, subjects=[2])
        assert content(out) == before
        one.export("mindeye2", out, subjects=[2])
        two.export("mindeye2", out, subjects=[1, 2])  # all are made again
        two.export("mindeye2", tmp_path / "expected", subjects=[1, 2])
        assert content(out) == content(tmp_path / "expected")

    @pytest.mark.parametrize("like", ["mindeye2", "deepnsd"])
    def test_of_files(self, zscored: Path, tmp_path: Path, like: str) -> None:
        first = of_subject(zscored, tmp_path / "1", 1, design="one")
        second = of_subject(zscored, tmp_path / "2", 2, design="two")
        with pytest.raises(ParameterError, match="and design of the experiment; export them"):
            export_trials([first, second], tmp_path / "out", like)
        export_trials(first, tmp_path / "out", like)
        with pytest.raises(ParameterError, match=r"holds subject 1 in|from another dataset"):
            export_trials(second, tmp_path / "out", like)
        same = of_subject(zscored, tmp_path / "3", 1, design="two")
        export_trials(same, tmp_path / "out", like)
        export_trials([same, second], tmp_path / "out", like)

    def test_what_was_not_recorded_is_not_another(self, zscored: Path, tmp_path: Path) -> None:
        first = of_subject(zscored, tmp_path / "1", 1)
        second = of_subject(zscored, tmp_path / "2", 2, design="two")
        export_trials(first, tmp_path / "out", "mindeye2")
        as_version_0_4(tmp_path / "out", first)
        export_trials(second, tmp_path / "out", "mindeye2")
        export_trials(first, tmp_path / "out", "mindeye2")

    def test_trials_name_the_design_of_their_dataset(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        trials = open_nsd(official.root, cache_dir=tmp_path / "c").single_trials(1, ["V1"])
        assert trials.attrs["design"] == blake3(official.design_path.read_bytes()).hexdigest()

    @pytest.mark.parametrize("which", ["all", "one pixel"])
    def test_other_images_are_exported_again(
        self, percent: Path, pictures: Path, tmp_path: Path, which: str
    ) -> None:
        images = Path(shutil.copy(pictures, tmp_path / "images.hdf5"))
        export_trials(percent, tmp_path / "out", "brain-diffuser", images=images)
        with open_single_trials(percent) as trials:
            nsd_id = int(trials["nsd_id"][0])
        status = images.stat()
        with h5py.File(images, "a") as file:
            changed = ... if which == "all" else (nsd_id, 1, 1, 1)
            file["imgBrick"][changed] = 255 - file["imgBrick"][changed]
        os.utime(images, ns=(status.st_atime_ns, status.st_mtime_ns))
        export_trials(percent, tmp_path / "out", "brain-diffuser", images=images)
        export_trials(percent, tmp_path / "expected", "brain-diffuser", images=images)
        assert content(tmp_path / "out") == content(tmp_path / "expected")

    def test_nothing_is_written_through_a_link_to_a_folder(
        self, percent: Path, tmp_path: Path
    ) -> None:
        for folder in ("elsewhere", "out"):
            (tmp_path / folder).mkdir()
        (tmp_path / "out" / "subj01").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ParameterError, match="subj01 is a link, where this export writes a f"):
            export_trials(percent, tmp_path / "out", "brain-diffuser")
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_nothing_of_version_0_4_stays_beside_other_trials(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(percent, out, "brain-diffuser", images=pictures)
        as_version_0_4(out, percent)
        other = Path(shutil.copy(percent, tmp_path / "subj01.nc"))
        with h5py.File(other, "a") as file:
            file["response"][...] += 1
        with pytest.raises(ParameterError, match="from other trials, and this export does not"):
            export_trials(other, out, "brain-diffuser")
        export_trials(percent, out, "brain-diffuser")  # the same: images stay

    def test_a_folder_of_images_is_told_before_anything_is_written(
        self, percent: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(InputFileError, match="is not a regular file"):
            export_trials(percent, tmp_path / "out", "brain-diffuser", images=tmp_path)
        assert not (tmp_path / "out").exists()

    def test_images_that_were_only_copied_are_not(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        def export(images: Path) -> int:
            export_trials(percent, tmp_path / "out", "brain-diffuser", images=images)
            (stimuli,) = (tmp_path / "out").rglob("nsd_test_stim_sub1.npy")
            return stimuli.stat().st_mtime_ns

        written = export(pictures)
        copied = Path(shutil.copy(pictures, tmp_path / "images.hdf5"))
        assert [export(copied), export(copied)] == [written, written]

    def test_one_value_that_was_corrected_is_exported_again(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        # Some blocks of a large file seldom tell of a few bytes.
        trials = Path(shutil.copy(zscored, tmp_path / "subj01.nc"))
        export_trials(trials, tmp_path / "out", "mindeye2")
        with h5py.File(trials, "a") as file:
            file["response"][40] += 1
        export_trials(trials, tmp_path / "out", "mindeye2")
        export_trials(trials, tmp_path / "expected", "mindeye2")
        assert content(tmp_path / "out") == content(tmp_path / "expected")

    def test_no_file_of_other_trials_stays_beside_a_subjects(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(percent, out, "brain-diffuser", images=pictures)
        before = content(out)
        other = of_subject(percent, tmp_path / "other", 1, design="other")
        with pytest.raises(ParameterError, match="from other trials, and this export does not"):
            export_trials(other, out, "brain-diffuser")
        assert content(out) == before
        export_trials(percent, out, "brain-diffuser")  # without images: theirs stay
        assert content(out) == before
        export_trials(other, out, "brain-diffuser", images=pictures)


class TestManifests:
    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"made_from": ["small"]}, "expected a mapping in made_from"),
            ({"made_from": None}, "expected a mapping in made_from"),
            ({"outputs": []}, "expected a mapping in outputs"),
            ({"outputs": {"README.md": 5}}, "expected a mapping in outputs, README.md"),
            ({"subjects": 5}, "expected a mapping in subjects"),
            ({"unfinished": 5}, "expected a list in unfinished"),
            ({"unfinished": [[]]}, "expected names in unfinished"),
            ({"kind": []}, "holds something else"),
            ({"like": {}}, "holds an export like {}"),
        ],
    )
    def test_one_that_was_edited_is_named_in_a_sentence(
        self, zscored: Path, tmp_path: Path, wrong: dict[str, object], says: str
    ) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        manifest = tmp_path / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | wrong))
        before = content(tmp_path)
        with pytest.raises(ParameterError, match=re.escape(says)):
            export_trials(zscored, tmp_path, "mindeye2")
        assert content(tmp_path) == before

    @pytest.mark.parametrize("text", ["[]", "5", "null", "", "[" * 100_000, "\x00"])
    def test_one_of_something_else_stays(self, zscored: Path, tmp_path: Path, text: str) -> None:
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ParameterError, match="holds something else"):
            export_trials(zscored, tmp_path, "mindeye2")
        assert content(tmp_path) == {"manifest.json": text.encode()}

    @pytest.mark.parametrize("replace", [True, False])
    @pytest.mark.parametrize("options", [{}, {"single_trials": True, "assemblies": False}])
    def test_a_run_leaves_the_folder_of_an_export_alone(
        self,
        official: SmallNSD,
        zscored: Path,
        tmp_path: Path,
        replace: bool,
        options: dict[str, bool],
    ) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        before = content(tmp_path)
        with pytest.raises(
            ParameterError, match=r"holds an export like mindeye2 \S+: choose another folder"
        ):
            nsd_prep.prepare(
                nsd_root=official.root,
                output_dir=tmp_path,
                replace=replace,
                **options,
            )
        assert content(tmp_path) == before
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
        words = ["run", "--nsd-root", str(official.root), "--output-dir", str(tmp_path), "--check"]
        assert main([*words, "--cache-dir", str(tmp_path.with_name("cache"))]) == 1

    def test_files_that_another_programs_manifest_lists_are_no_runs(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        listed = {"mine.txt": {"sha256": hashlib.sha256(b"mine").hexdigest()}}
        (out / "manifest.json").write_text(json.dumps({"outputs": listed}))
        options = {"nsd_root": official.root, "output_dir": out, "regions": ["V1"]}
        with pytest.raises(ParameterError, match=r"1 file \(manifest.json\), which no run"):
            nsd_prep.prepare(**options, report=False, brainscore=False)
        with suppress(FailedChecksError):
            nsd_prep.prepare(**options, report=False, brainscore=False, replace=True)
        assert (out / "mine.txt").read_text() == "mine"


class TestBadInput:
    def test_other_values_than_the_paper_has(self, zscored: Path, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="normalise='none', found 'session'"):
            export_trials(zscored, tmp_path / "out", "brain-diffuser")

    def test_means(self, official: SmallNSD, tmp_path: Path) -> None:
        path = written(official, tmp_path, "session", average=True)
        with pytest.raises(InputFileError, match="holds means over repetitions"):
            export_trials(path, tmp_path / "out", "mindeye2")

    def test_some_images(self, official: SmallNSD, tmp_path: Path) -> None:
        path = written(official, tmp_path, "session", images="shared")
        with pytest.raises(ParameterError, match="those of shared images"):
            export_trials(path, tmp_path / "out", "mindeye2")

    def test_no_trials(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError, match="There are no single trials in"):
            export_trials(tmp_path, tmp_path / "out", "mindeye2")

    def test_an_unknown_form_names_those_there_are(
        self, zscored: Path, tmp_path: Path, tiny_nsd: Path
    ) -> None:
        with pytest.raises(ParameterError, match=", ".join(LIKES)):
            export_trials(zscored, tmp_path, "mindeye3")
        with pytest.raises(ParameterError, match=", ".join(LIKES)):
            open_nsd(tiny_nsd, cache_dir=tmp_path).export("mindeye3", tmp_path)

    def test_nothing_is_left_where_a_split_cannot_be_made(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        subject = Subject.load(official, 5)  # of three sessions, before which there are none
        path, _ = write_single_trials_of_subject(
            tmp_path / "trials",
            5,
            subject.sessions(),
            subject.trials,
            subject.voxels,
            SingleTrialOptions(normalise="none"),
            subject.space.attributes(),
        )
        with pytest.raises(
            ParameterError, match="The split shared1000_37 cannot be made: it sets apart"
        ):
            export_trials(path, tmp_path / "out", "brain-diffuser")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("like", ["mindeye2", "brain-diffuser", "deepnsd", "algonauts2023"])
    @pytest.mark.parametrize("space", ["fsaverage", "nativesurface", "func1mm"])
    def test_another_space(
        self, zscored: Path, percent: Path, tmp_path: Path, space: str, like: str
    ) -> None:
        normalise = "none" if like in ("brain-diffuser", "algonauts2023") else "session"
        if like == "algonauts2023" and space == "fsaverage":
            space = "func1pt8mm"
        path = with_attributes(percent if normalise == "none" else zscored, tmp_path, space=space)
        with pytest.raises(ParameterError, match=f"in the space f.*, found {space}"):
            export_trials(path, tmp_path / "out", like)
        assert not (tmp_path / "out").exists()

    def test_another_experiment(self, zscored: Path, tmp_path: Path) -> None:
        path = with_attributes(zscored, tmp_path, experiment="NSD-imagery")
        with pytest.raises(ParameterError, match="found those of NSD-imagery in"):
            export_trials(path, tmp_path / "out", "mindeye2")
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_another_choice_of_voxels_does_not_replace_an_export(
    official: SmallNSD, tmp_path: Path
) -> None:
    nsd = open_nsd(official.root, cache_dir=tmp_path / "cache")
    file, *_ = nsd.export("deepnsd", tmp_path / "out", subjects=[SUBJECT])
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ParameterError, match=r"=None there, min_ncsnr=0\.001 in this export"):
        nsd.export("deepnsd", tmp_path / "out", subjects=[SUBJECT], min_ncsnr=0.001)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    nsd.export("deepnsd", tmp_path / "out", subjects=[SUBJECT])
    assert file.exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--subjects", "1"), ("--min-ncsnr", "0.5"), ("--betas", "b3")]
)
def test_an_option_that_applies_to_datasets_is_refused_for_single_trials(
    zscored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    words = ["export", str(zscored), str(tmp_path / "out"), "--like", "mindeye2", option, value]
    assert main(words) == 2
    assert f"{option} applies only to a dataset, and" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_images_are_those_of_a_dataset_itself(
    tiny_nsd: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(tiny_nsd), str(tmp_path / "out"), "--like", "brain-diffuser"]
    assert main([*words, "--images", str(pictures)]) == 2
    assert "--images applies only to single trials, and" in capsys.readouterr().err


def test_command_line(tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    words = ["export", str(tiny_nsd), str(out), "--subjects", "1", "--cache-dir", str(cache)]
    assert main([*words, "--like", "brain-diffuser"]) == 0
    assert "Written: 9 files" in capsys.readouterr().out
    assert np.load(out / "subj01/nsd_test_stim_sub1.npy").shape[1:] == (8, 8, 3)
    assert main([*words, "--like", "mindeye3"]) == 2
    assert "mindeye2" in capsys.readouterr().err
