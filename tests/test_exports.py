"""Exports: each read as a paper's code reads it, and compared with the raw betas."""

import re
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from exported_trials import SUBJECT, SURFACE_SESSIONS, VERTICES, shown, with_attributes, written
from single_trials_inputs import Subject
from small_nsd import SmallNSD

from nsd_prep.core.errors import (
    InputFileError,
    MissingFilesError,
    ParameterError,
)
from nsd_prep.exports import LIKES, export_trials
from nsd_prep.exports.labels import ATLASES
from nsd_prep.flows.command import main
from nsd_prep.notebook import open_nsd
from nsd_prep.single_trials.subject import SingleTrialOptions, write_single_trials_of_subject
from nsd_prep.synthetic.labels import LABEL_NAMES


def masked(small: SmallNSD, session: int) -> np.ndarray:
    """Return a session's stored betas (n_trials, n_voxels) as a NIfTI mask of nsdgeneral gives."""
    mask = nibabel.load(small.roi_path(SUBJECT, "nsdgeneral")).get_fdata() > 0
    return small.betas[SUBJECT, session][:, mask]


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
