"""All trials of a subject: tables, normalisation and averages against plain loops."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import reference
import single_trials_reference as plain
from single_trials_inputs import Subject
from small_nsd import SmallNSD, write_small_nsd

from nsd_prep.core.errors import InputFileError, OutputError, ParameterError
from nsd_prep.dataset.behaviour import behaviour_file, read_behaviour
from nsd_prep.dataset.design import Design
from nsd_prep.dataset.regions import union_of_regions
from nsd_prep.dataset.splits import training_trials
from nsd_prep.dataset.trials import (
    image_table,
    read_coco_ids,
    run_of_trial,
    shows_images,
    trial_table,
)
from nsd_prep.single_trials.average import averaged_images
from nsd_prep.single_trials.normalise import normalised, normalised_sessions
from nsd_prep.single_trials.subject import SingleTrialOptions, write_single_trials_of_subject
from nsd_prep.single_trials.voxels import join_regions, with_averaged_noise_ceiling
from nsd_prep.sources.opening import open_dataset


class TestTrialTable:
    @pytest.mark.parametrize("number", [1, 5])
    def test_every_trial_against_a_loop(self, official: SmallNSD, number: int) -> None:
        subject = Subject.load(official, number)
        expected = plain.trials(official, number)
        assert subject.trials.index.name == "trial"
        assert subject.trials.index.tolist() == [row["trial"] for row in expected]
        for column in set(expected[0]) - {"trial"}:
            assert subject.trials[column].tolist() == [row[column] for row in expected], column

    def test_without_the_stimulus_table_there_are_no_coco_ids(self, official: SmallNSD) -> None:
        subject = Subject.load(official, 1)
        table = trial_table(subject.design, 1, official.sessions, 24, subject.usable)
        assert "coco_id" not in table
        pd.testing.assert_frame_equal(table, subject.trials.drop(columns="coco_id"))

    def test_runs_only_where_sessions_have_nsds_trials(self, official: SmallNSD) -> None:
        assert "run" not in Subject.load(official, 1).trials
        design = Design(np.arange(1500) % 32, np.arange(32).reshape(1, 32), np.array([0, 1]))
        table = trial_table(design, 1, {1: 2}, 750, np.array([0, 1]), train_fraction=0.5)
        runs = table.groupby(["session", "run"]).size()
        assert runs.loc[1].tolist() == runs.loc[2].tolist() == [63, 62] * 6
        assert table["run"].tolist()[:64] == [1] * 63 + [2]

    def test_run_of_the_last_trial(self) -> None:
        assert run_of_trial(np.array([0, 62, 63, 124, 125, 749])).tolist() == [1, 1, 2, 2, 3, 12]

    def test_an_image_without_a_coco_id(self, official: SmallNSD) -> None:
        subject = Subject.load(official, 1)
        coco_ids = read_coco_ids(official.table_path).drop(subject.trials["nsd_id"].iloc[3])
        with pytest.raises(InputFileError, match=r"no row for nsd_id \d+ of the design"):
            trial_table(subject.design, 1, official.sessions, 24, subject.usable, coco_ids=coco_ids)

    def test_coco_ids_that_are_no_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / "table.csv"
        path.write_text("nsdId,cocoId\n0,nothing\n")
        with pytest.raises(InputFileError, match="does not give COCO ids"):
            read_coco_ids(path)

    def test_the_csv_gives_the_same_table(self, official: SmallNSD, tmp_path: Path) -> None:
        subject = Subject.load(official, 1)
        sessions, trials, voxels = subject.sessions(), subject.trials, subject.voxels
        _, csv = write_single_trials_of_subject(
            tmp_path, 1, sessions, trials, voxels, SingleTrialOptions(), {}
        )
        read = pd.read_csv(csv, index_col="trial")
        assert (read.pop("subject") == "subj01").all()
        pd.testing.assert_frame_equal(read, trials, check_dtype=False)


class TestSplits:
    def test_shared1000_tests_on_all_shared_images(self, official: SmallNSD) -> None:
        trials = Subject.load(official, 5).trials
        expected = ["test" if row["is_shared"] else "train" for row in plain.trials(official, 5)]
        assert trials["shared1000"].tolist() == expected

    def test_shared515_tests_on_what_all_subjects_saw_three_times(self, official: SmallNSD) -> None:
        three_times = plain.seen_three_times(official, [1, 2, 5])
        assert 0 < len(three_times) < len(official.sharedix)
        # Whichever subject and subjects are chosen.
        trials = Subject.load(official, 1, chosen=(1,)).trials
        assert (trials["shared515"] == "test").tolist() == trials["nsd_id"].isin(
            three_times
        ).tolist()
        assert set(trials["shared515"]) == {"train", "test"}

    def test_nsd_prep_is_the_split_of_the_assemblies(self, official: SmallNSD) -> None:
        usable = plain.seen_three_times(official, [1, 2])
        order = np.arange(len(usable))
        np.random.RandomState(42).shuffle(order)
        train = {usable[index] for index in order[: int(0.8 * len(usable))]}
        trials = Subject.load(official, 1, chosen=(1, 2)).trials
        for nsd_id, part in zip(trials["nsd_id"], trials["nsd_prep"], strict=True):
            expected = "train" if nsd_id in train else "test" if nsd_id in usable else "unused"
            assert part == expected


class TestImages:
    @pytest.mark.parametrize("images", ["all", "shared", "unique"])
    def test_which_trials_are_kept(self, official: SmallNSD, images: str) -> None:
        wanted = {"all": (True, False), "shared": (True,), "unique": (False,)}[images]
        keep = shows_images(Subject.load(official, 1).trials, images)
        assert keep.tolist() == [row["is_shared"] in wanted for row in plain.trials(official, 1)]

    def test_a_row_for_each_image(self, official: SmallNSD) -> None:
        images = image_table(Subject.load(official, 5).trials)
        rows = plain.trials(official, 5)
        nsd_ids = sorted({row["nsd_id"] for row in rows})
        assert images.index.name == "image"
        assert images["nsd_id"].tolist() == nsd_ids
        assert images["n_repetitions"].tolist() == [
            sum(row["nsd_id"] == nsd_id for row in rows) for nsd_id in nsd_ids
        ]
        assert set(images["n_repetitions"]) > {2, 3}
        assert images["coco_id"].tolist() == [1000 + nsd_id for nsd_id in nsd_ids]
        assert "session" not in images


class TestBehaviour:
    @pytest.fixture
    def rows(self, damageable: SmallNSD) -> pd.DataFrame:
        """Return the answers of subject 1 as NSD writes them, in two runs a session."""
        rng = np.random.default_rng(3)
        rows = []
        for row in plain.trials(damageable, 1):
            run = 1 + (row["trial_in_session"] >= 13)
            answered = rng.random() < 0.9
            rows.append(
                {
                    "SUBJECT": 1,
                    "SESSION": row["session"],
                    "RUN": run,
                    "TRIAL": row["trial_in_session"] + 1 - 13 * (run - 1),
                    "73KID": row["nsd_id"] + 1,
                    "10KID": 1,
                    "TIME": row["trial"] / 86400,
                    "ISOLD": int(row["repetition"] > 0),
                    "ISCORRECT": int(rng.random() < 0.8) if answered else np.nan,
                    "RT": rng.uniform(300, 3000) if answered else np.nan,
                    "CHANGEMIND": 0,
                    "MISSINGDATA": 0,
                }
            )
        return pd.DataFrame(rows)

    @staticmethod
    def read(small: SmallNSD, rows: pd.DataFrame) -> pd.DataFrame:
        path = behaviour_file(open_dataset(small.root), 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path, sep="\t", index=False, na_rep="NaN")
        return read_behaviour(path, 1, Subject.load(small, 1).trials)

    def test_each_trial_has_its_answer(self, damageable: SmallNSD, rows: pd.DataFrame) -> None:
        shuffled = rows.sample(frac=1, random_state=1)
        answers = self.read(damageable, shuffled)
        assert answers.index.name == "trial"
        for column, name in [("ISOLD", "is_old"), ("ISCORRECT", "is_correct")]:
            np.testing.assert_array_equal(answers[name], rows[column])
        np.testing.assert_allclose(answers["response_time"], rows["RT"])

    def test_sessions_beyond_the_betas_are_passed_over(
        self, damageable: SmallNSD, rows: pd.DataFrame
    ) -> None:
        later = rows.assign(SESSION=rows["SESSION"] + 4)
        answers = self.read(damageable, pd.concat([rows, later]))
        np.testing.assert_array_equal(answers["is_correct"], rows["ISCORRECT"])

    def test_a_session_that_is_not_there(self, damageable: SmallNSD, rows: pd.DataFrame) -> None:
        answers = self.read(damageable, rows[rows["SESSION"] != 2])
        missing = rows["SESSION"] == 2
        assert answers[missing.to_numpy()].isna().all(axis=None)
        np.testing.assert_array_equal(answers["is_old"][~missing], rows["ISOLD"][~missing])

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda rows: rows.assign(SUBJECT=2), "holds subject 2: expected 1"),
            (lambda rows: rows.drop(index=30), "has 23 trials in session 2: expected 24"),
            (lambda rows: rows.drop(columns="RT"), "cannot be read"),
            (lambda rows: rows.assign(ISOLD=1 - rows["ISOLD"]), "calls an image old"),
            (
                lambda rows: rows.assign(**{"73KID": rows["73KID"].shift(-1, fill_value=1)}),
                r"disagree in \d+ of 96 trials: in session 1, trial 0",
            ),
            (lambda rows: rows.assign(ISCORRECT=2), r"ISCORRECT 2 in line 2 \(96 such lines\)"),
            (lambda rows: rows.assign(RT=-rows["RT"]), r"has RT -\d+.* expected milliseconds"),
            (lambda rows: rows.assign(RT=np.inf), "has RT inf"),
        ],
        ids=[
            "subject",
            "trial missing",
            "column missing",
            "old",
            "shifted",
            "neither right nor wrong",
            "answered too early",
            "never answered",
        ],
    )
    def test_what_contradicts_the_design(
        self,
        damageable: SmallNSD,
        rows: pd.DataFrame,
        damage: Callable[[pd.DataFrame], pd.DataFrame],
        message: str,
    ) -> None:
        with pytest.raises(InputFileError, match=message):
            self.read(damageable, damage(rows))


class TestVoxels:
    @pytest.mark.parametrize("number", [1, 2])
    def test_the_union_against_a_loop(self, official: SmallNSD, number: int) -> None:
        subject = Subject.load(official, number)
        expected = plain.voxels(official, number)
        table = subject.voxels
        assert len(table) < sum(map(len, subject.regions.values()))  # regions overlap
        assert table.index.name == "voxel"
        for column, axis in [("nifti_i", 0), ("nifti_j", 1), ("nifti_k", 2)]:
            assert table[column].tolist() == [row["ijk"][axis] for row in expected]
        for column, axis in [("voxel_x", 2), ("voxel_y", 1), ("voxel_z", 0)]:
            assert table[column].tolist() == [row["ijk"][axis] for row in expected]
        for name in plain.REGIONS:
            assert table[f"in_{name}"].tolist() == [row["in"][name] for row in expected]
        ncsnr = np.array([row["ncsnr"] for row in expected])
        np.testing.assert_array_equal(table["ncsnr"], ncsnr.astype(np.float32))
        for column, n in (("noise_ceiling_1", 1), ("noise_ceiling", 3)):
            ceiling = 100 * ncsnr**2 / (ncsnr**2 + 1 / n)
            np.testing.assert_allclose(table[column], np.nan_to_num(ceiling))

    def test_the_noise_ceiling_of_a_mixture(self, official: SmallNSD) -> None:
        voxels = Subject.load(official, 5).voxels
        images = pd.DataFrame({"n_repetitions": [3] * 5 + [2] * 3 + [1] * 2})
        table = with_averaged_noise_ceiling(voxels, images)
        ncsnr = voxels["ncsnr"].astype(float)
        expected = 100 * ncsnr**2 / (ncsnr**2 + (5 / 3 + 3 / 2 + 2) / 10)
        np.testing.assert_allclose(table["noise_ceiling_averaged"], np.nan_to_num(expected))
        assert (table["noise_ceiling_averaged"] <= table["noise_ceiling"]).all()
        assert "noise_ceiling_averaged" not in voxels

    def test_regions_kept_apart_are_joined(self, official: SmallNSD) -> None:
        subject = Subject.load(official, 1)
        union = union_of_regions(subject.regions)
        _, values = next(subject.sessions())
        parts = {name: values[np.isin(union, voxels)] for name, voxels in subject.regions.items()}
        np.testing.assert_array_equal(join_regions(parts, subject.regions), values)


class TestNormalisation:
    @pytest.mark.parametrize("number", [1, 5])
    @pytest.mark.parametrize("normalisation", ["session", "none", "train-only"])
    def test_bit_for_bit_against_a_loop(
        self, official: SmallNSD, number: int, normalisation: str
    ) -> None:
        subject = Subject.load(official, number)
        is_training = training_trials(subject.trials, "shared1000")
        found = np.concatenate(
            [
                responses
                for _, responses in normalised_sessions(
                    subject.sessions(), subject.trials, normalisation, is_training=is_training
                )
            ]
        )
        unique = {row["nsd_id"] for row in plain.trials(official, number) if not row["is_shared"]}
        expected = plain.responses(official, number, normalisation, unique)
        assert found.dtype == np.float32
        assert found.tobytes() == expected.tobytes()

    def test_train_only_does_not_depend_on_test_trials(self, official: SmallNSD) -> None:
        _, values = next(Subject.load(official, 1).sessions())
        is_training = np.arange(values.shape[1]) % 3 > 0
        changed = values.copy()
        changed[:, ~is_training] = 7
        before = normalised(values, "train-only", is_training)
        after = normalised(changed, "train-only", is_training)
        np.testing.assert_array_equal(before[:, is_training], after[:, is_training])
        assert not np.array_equal(before, after)

    def test_a_voxel_constant_in_training_is_zero(self) -> None:
        values = np.array([[5, 5, 9], [1, 2, 3]], dtype=np.int16)
        found = normalised(values, "train-only", np.array([True, True, False]))
        assert found[0].tolist() == [0, 0, 0]
        np.testing.assert_allclose(found[1], [-1, 1, 3], rtol=1e-5)

    def test_kept_trials_are_normalised_over_all(self, official: SmallNSD) -> None:
        subject = Subject.load(official, 1)
        keep = shows_images(subject.trials, "shared")
        found = np.concatenate(
            [
                responses
                for _, responses in normalised_sessions(
                    subject.sessions(), subject.trials, "session", keep=keep
                )
            ]
        )
        expected = plain.responses(official, 1, "session")[keep]
        np.testing.assert_array_equal(found, expected)

    def test_a_session_without_a_kept_trial_is_passed_over(self, official: SmallNSD) -> None:
        subject = Subject.load(official, 1)
        keep = (subject.trials["session"] == 3).to_numpy()
        sessions = normalised_sessions(subject.sessions(), subject.trials, "none", keep=keep)
        assert [session for session, _ in sessions] == [3]

    def test_no_training_trial(self) -> None:
        values = np.zeros((2, 3), dtype=np.int16)
        with pytest.raises(ParameterError, match="no trial of a training image"):
            normalised(values, "train-only", np.zeros(3, dtype=bool))

    def test_a_session_with_another_number_of_trials(self, official: SmallNSD) -> None:
        subject = Subject.load(official, 1)
        short = ((session, values[:, :-1]) for session, values in subject.sessions())
        with pytest.raises(InputFileError, match="Session 1 has 23 trials: expected 24"):
            list(normalised_sessions(short, subject.trials, "session"))


class TestAverages:
    @staticmethod
    def average(subject: Subject, scratch: Path, images: str = "all") -> np.ndarray:
        keep = shows_images(subject.trials, images)
        kept = subject.trials[keep]
        blocks = averaged_images(
            normalised_sessions(subject.sessions(), subject.trials, "session", keep=keep),
            kept,
            image_table(kept),
            len(subject.voxels),
            scratch,
        )
        return np.concatenate(list(blocks))

    @pytest.mark.parametrize("number", [1, 5])
    @pytest.mark.parametrize("images", ["all", "shared", "unique"])
    def test_against_a_loop(
        self, official: SmallNSD, tmp_path: Path, number: int, images: str
    ) -> None:
        found = self.average(Subject.load(official, number), tmp_path, images)
        wanted = {"all": (True, False), "shared": (True,), "unique": (False,)}[images]
        rows = [row for row in plain.trials(official, number) if row["is_shared"] in wanted]
        responses = plain.responses(official, number, "session")
        nsd_ids = sorted({row["nsd_id"] for row in rows})
        assert len(found) == len(nsd_ids)
        for mean, nsd_id in zip(found, nsd_ids, strict=True):
            own = [responses[row["trial"]] for row in rows if row["nsd_id"] == nsd_id]
            total = own[0]
            for response in own[1:]:
                total = total + response
            assert mean.tobytes() == (total / np.float32(len(own))).tobytes()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("region", ["V1", "IT"])
    def test_shared_images_give_the_assemblys_rows(
        self, official: SmallNSD, tmp_path: Path, region: str
    ) -> None:
        subject = Subject.load(official, 1)
        usable = plain.seen_three_times(official, [1])
        volume, labels = plain.REGIONS[region]
        assembly = reference.responses(official, 1, volume, labels, usable).mean(axis=1)
        images = image_table(subject.trials[shows_images(subject.trials, "shared")])
        found = self.average(subject, tmp_path, "shared")
        rows = images["nsd_id"].isin(usable).to_numpy()
        columns = subject.voxels[f"in_{region}"].to_numpy()
        np.testing.assert_array_equal(found[rows][:, columns], assembly)

    def test_a_session_that_does_not_come(self, official: SmallNSD, tmp_path: Path) -> None:
        subject = Subject.load(official, 1)
        some = (pair for pair in subject.sessions() if pair[0] != 3)
        sessions = normalised_sessions(some, subject.trials, "session")
        images = image_table(subject.trials)
        with pytest.raises(InputFileError, match="not as often as the table of trials has them"):
            list(averaged_images(sessions, subject.trials, images, len(subject.voxels), tmp_path))

    def test_a_scratch_folder_that_cannot_be_written(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        subject = Subject.load(official, 1)
        (tmp_path / "file").touch()
        blocks = averaged_images(
            iter(()), subject.trials, image_table(subject.trials), 3, tmp_path / "file"
        )
        with pytest.raises(OutputError, match="cannot be written"):
            list(blocks)


@pytest.mark.parametrize("storage", ["contiguous", "odd chunks, gzip and shuffle"])
def test_any_storage_form_gives_the_same_responses(
    official: SmallNSD, tmp_path: Path, storage: str
) -> None:
    def values(small: SmallNSD) -> Iterator[bytes]:
        return (session.tobytes() for _, session in Subject.load(small, 2).sessions())

    other = write_small_nsd(tmp_path / "nsd", storage=storage)
    assert list(values(other)) == list(values(official))
