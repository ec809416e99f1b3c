"""The design, and which image each subject saw in which trial, against plain loops."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import reference
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from small_nsd import SESSIONS, SmallNSD, stimulus_table, write_design

from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.dataset.design import Design, read_design
from nsd_prep.dataset.stimulus_table import contradictions, read_stimulus_table
from nsd_prep.dataset.trials import (
    TRIAL_COLUMNS,
    check_planned_trials,
    needed_sessions,
    repetition_counts,
    repetition_of_trial,
    shared_trials,
    usable_images,
    with_usable,
)

# A design small enough to follow by eye: image 2 repeats at once, image 3 is not shared.
ORDERING = [2, 2, 1, 3, 1, 2, 3, 1]
SHARED = [1, 7]
SUBJECT_IMAGES = [[1, 7, 4], [1, 7, 9]]


@pytest.fixture
def by_eye(tmp_path: Path) -> Design:
    path = tmp_path / "design.mat"
    write_design(path, ORDERING, SUBJECT_IMAGES, SHARED)
    return read_design(path)


def table_of(rows: list[dict[str, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(TRIAL_COLUMNS), dtype=np.int64)


def loops(small: SmallNSD, subject: int) -> list[dict[str, int]]:
    return reference.shared_trials(
        *reference.design(small.design_path),
        subject,
        small.sessions[subject],
        small.trials_per_session,
    )


class TestTrialTable:
    def test_a_design_that_can_be_followed_by_eye(self, by_eye: Design) -> None:
        trials = shared_trials(by_eye, subject=1, n_sessions=2, trials_per_session=4)
        assert trials.to_numpy().tolist() == [
            # subject, nsd_id, repetition, session, trial in session, global trial
            [1, 6, 0, 1, 0, 0],
            [1, 6, 1, 1, 1, 1],
            [1, 0, 0, 1, 2, 2],
            [1, 0, 1, 2, 0, 4],
            [1, 6, 2, 2, 1, 5],
            [1, 0, 2, 2, 3, 7],
        ]
        assert tuple(trials.columns) == TRIAL_COLUMNS
        assert (trials.dtypes == np.int64).all()

    @pytest.mark.parametrize("subject", SESSIONS)
    def test_the_small_dataset(self, small: SmallNSD, subject: int) -> None:
        design = read_design(small.design_path)
        trials = shared_trials(design, subject, small.sessions[subject], small.trials_per_session)
        expected = loops(small, subject)
        pd.testing.assert_frame_equal(trials, table_of(expected))
        in_one_session = pd.DataFrame(expected).groupby(["nsd_id", "session"]).size()
        assert in_one_session.max() > 1, "images repeat within a session"

    @given(data=st.data())
    def test_random_designs(self, data: st.DataObject) -> None:
        n_images = data.draw(st.integers(1, 6), "images of a subject")
        n_shared = data.draw(st.integers(1, n_images), "shared images")
        trials_per_session = data.draw(st.integers(1, 7), "trials in a session")
        n_sessions = data.draw(st.integers(1, 4), "sessions")
        needed = n_sessions * trials_per_session
        ordering = data.draw(
            st.lists(st.integers(1, n_images), min_size=needed, max_size=needed + 5)
        )
        ids = data.draw(st.permutations(range(1, 3 * n_images + 1)))
        shared = sorted(ids[:n_shared])
        own = [ids[n_shared:n_images], ids[n_images : 2 * n_images - n_shared]]
        subject_images = [shared + of_subject for of_subject in own]
        subject = data.draw(st.sampled_from([1, 2]))
        design = Design(np.array(ordering) - 1, np.array(subject_images) - 1, np.array(shared) - 1)
        expected = reference.shared_trials(
            ordering, subject_images, shared, subject, n_sessions, trials_per_session
        )
        found = shared_trials(design, subject, n_sessions, trials_per_session)
        pd.testing.assert_frame_equal(found, table_of(expected))

    @given(st.lists(st.integers(0, 5), max_size=40))
    def test_repetition_order_is_trial_order(self, images: list[int]) -> None:
        expected = [images[:trial].count(image) for trial, image in enumerate(images)]
        assert repetition_of_trial(np.array(images, dtype=np.int64)).tolist() == expected


class TestUsableImages:
    @pytest.fixture
    def trials(self, small: SmallNSD) -> pd.DataFrame:
        return table_of([row for subject in SESSIONS for row in loops(small, subject)])

    @pytest.mark.parametrize("subjects", [(1, 2, 5), (1, 2), (5,), (5, 1)])
    def test_images_seen_three_times_by_every_subject(
        self, trials: pd.DataFrame, subjects: tuple[int, ...]
    ) -> None:
        chosen = pd.concat([trials[trials["subject"] == subject] for subject in subjects])
        expected = reference.usable_images(chosen.to_dict("records"), subjects)
        usable = usable_images(chosen, subjects)
        assert usable.dtype == np.int64
        assert usable.tolist() == expected

    def test_subjects_with_fewer_sessions_leave_fewer_images(self, trials: pd.DataFrame) -> None:
        both = trials[trials["subject"] != 5]
        assert len(usable_images(both, [1, 2])) == 16
        assert 0 < len(usable_images(trials, SESSIONS)) < 16

    def test_an_image_seen_four_times_is_not_usable(self) -> None:
        rows = [
            {"subject": 1, "nsd_id": nsd_id, "repetition": repetition, "session": 1}
            for nsd_id, times in ((3, 3), (4, 4), (9, 3))
            for repetition in range(times)
        ]
        assert usable_images(pd.DataFrame(rows), [1]).tolist() == [3, 9]

    def test_no_image_in_common(self) -> None:
        rows = [
            {"subject": subject, "nsd_id": nsd_id}
            for subject, nsd_id in ((1, 3), (4, 8))
            for _ in range(3)
        ]
        with pytest.raises(ParameterError) as raised:
            usable_images(pd.DataFrame(rows), [1, 4])
        assert "No shared image was seen three times by all of the subjects 1, 4" in str(
            raised.value
        )
        assert "choose other subjects" in str(raised.value)

    def test_a_subject_without_any_shared_trial_leaves_no_image(self) -> None:
        rows = [{"subject": 1, "nsd_id": 3} for _ in range(3)]
        with pytest.raises(ParameterError, match="all of the subjects 1, 2"):
            usable_images(pd.DataFrame(rows), [1, 2])

    def test_counts_of_3_2_1_and_0_times(self, small: SmallNSD, trials: pd.DataFrame) -> None:
        shared = np.array(small.sharedix) - 1
        ordered = pd.concat([trials[trials["subject"] == subject] for subject in (5, 1, 2)])
        counts = repetition_counts(ordered, shared)
        assert counts.index.tolist() == [5, 1, 2]
        assert counts.columns.tolist() == [3, 2, 1, 0]
        for subject in (5, 1, 2):
            rows = loops(small, subject)
            times = [sum(row["nsd_id"] == nsd_id for row in rows) for nsd_id in shared]
            assert counts.loc[subject].tolist() == [times.count(n) for n in (3, 2, 1, 0)]
        assert counts.loc[1].tolist() == [16, 0, 0, 0]

    def test_an_image_never_seen_counts_as_0_times(self, by_eye: Design) -> None:
        trials = shared_trials(by_eye, subject=1, n_sessions=1, trials_per_session=2)
        assert repetition_counts(trials, by_eye.shared_nsd_ids).loc[1].tolist() == [0, 1, 0, 1]

    def test_sessions_that_hold_a_usable_trial(self, small: SmallNSD, trials) -> None:
        usable = usable_images(trials, SESSIONS)
        marked = with_usable(trials, usable)
        assert marked["usable"].tolist() == [row in usable.tolist() for row in marked["nsd_id"]]
        needed = needed_sessions(marked)
        for subject in SESSIONS:
            rows = [row for row in loops(small, subject) if row["nsd_id"] in usable]
            assert needed[subject] == tuple(sorted({row["session"] for row in rows}))
        # Subject 5 has three sessions, so that no usable image is seen in anyone's fourth.
        assert 4 not in needed[1]

    def test_needed_sessions_keep_the_order_of_the_subjects(self, trials: pd.DataFrame) -> None:
        ordered = pd.concat([trials[trials["subject"] == subject] for subject in (5, 2)])
        assert list(needed_sessions(with_usable(ordered, usable_images(ordered, [5, 2])))) == [5, 2]


class TestReadDesign:
    def test_everything_is_counted_from_0_and_signed(self, by_eye: Design) -> None:
        assert by_eye.image_of_trial.tolist() == [1, 1, 0, 2, 0, 1, 2, 0]
        assert by_eye.nsd_id_of_image.tolist() == [[0, 6, 3], [0, 6, 8]]
        assert by_eye.shared_nsd_ids.tolist() == [0, 6]
        for array in (by_eye.image_of_trial, by_eye.nsd_id_of_image, by_eye.shared_nsd_ids):
            assert array.dtype == np.int64

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
    def test_whole_numbers_of_any_type(self, tmp_path: Path, by_eye: Design, dtype: type) -> None:
        path = tmp_path / "typed.mat"
        arrays = {"masterordering": [ORDERING], "subjectim": SUBJECT_IMAGES, "sharedix": [SHARED]}
        scipy.io.savemat(path, {name: np.array(item, dtype) for name, item in arrays.items()})
        assert np.array_equal(read_design(path).image_of_trial, by_eye.image_of_trial)
        assert np.array_equal(read_design(path).nsd_id_of_image, by_eye.nsd_id_of_image)

    @pytest.mark.parametrize(
        ("variable", "arrays"),
        [
            ("masterordering", ([0, *ORDERING[1:]], SUBJECT_IMAGES, SHARED)),
            ("masterordering", ([4, *ORDERING[1:]], SUBJECT_IMAGES, SHARED)),
            ("subjectim", (ORDERING, [[1, 7, 0], [1, 7, 9]], SHARED)),
            ("sharedix", (ORDERING, [[0, 7, 4], [0, 7, 9]], [0, 7])),
            ("sharedix", (ORDERING, SUBJECT_IMAGES, [1, 8])),
            ("sharedix", (ORDERING, [[1, 7, 4], [1, 8, 9]], SHARED)),
            ("sharedix", (ORDERING, SUBJECT_IMAGES, [1, 7, 8, 9])),
        ],
        ids=[
            "image 0",
            "image beyond subjectim",
            "id 0",
            "shared id 0",
            "another shared image",
            "one subject's shared images differ",
            "more shared images than images",
        ],
    )
    def test_a_design_that_is_impossible(
        self, tmp_path: Path, variable: str, arrays: tuple[list, list, list]
    ) -> None:
        path = tmp_path / "design.mat"
        write_design(path, *arrays)
        with pytest.raises(InputFileError) as raised:
            read_design(path)
        assert str(path) in str(raised.value)
        assert variable in str(raised.value)
        assert "download it again" in str(raised.value)

    def test_a_variable_is_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "design.mat"
        scipy.io.savemat(path, {"masterordering": [ORDERING], "sharedix": [SHARED]})
        with pytest.raises(InputFileError, match=r"no variable subjectim.*download it again"):
            read_design(path)

    @pytest.mark.parametrize(
        "values", [[[1.5, 2.0]], [[np.nan, 1.0]], [["one", "two"]], np.zeros((1, 0))]
    )
    def test_values_that_are_no_whole_numbers(self, tmp_path: Path, values: object) -> None:
        path = tmp_path / "design.mat"
        scipy.io.savemat(
            path, {"masterordering": values, "subjectim": SUBJECT_IMAGES, "sharedix": [SHARED]}
        )
        with pytest.raises(InputFileError, match="masterordering"):
            read_design(path)

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\0" * 300])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "design.mat"
        path.write_bytes(content)
        with pytest.raises(InputFileError) as raised:
            read_design(path)
        assert f"{path} cannot be read as a MAT v5 file" in str(raised.value)
        assert "download it again" in str(raised.value)

    @pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
    def test_a_truncated_file(self, small: SmallNSD, tmp_path: Path, kept: float) -> None:
        content = small.design_path.read_bytes()
        path = tmp_path / "design.mat"
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(InputFileError, match="download it again"):
            read_design(path)

    def test_a_missing_file_is_an_error_of_the_disk(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_design(tmp_path / "design.mat")


class TestPlannedTrials:
    def test_exactly_enough_trials(self, by_eye: Design) -> None:
        check_planned_trials(Path("design.mat"), by_eye, 2, n_sessions=2, trials_per_session=4)

    def test_too_few_trials(self, by_eye: Design) -> None:
        with pytest.raises(InputFileError) as raised:
            check_planned_trials(Path("design.mat"), by_eye, 2, n_sessions=3, trials_per_session=3)
        message = str(raised.value)
        assert "design.mat has 8 trials in masterordering: expected at least 9" in message
        assert "subject 2 (3 sessions of 3 trials)" in message

    def test_a_subject_without_images(self, by_eye: Design) -> None:
        with pytest.raises(InputFileError, match=r"2 rows in subjectim.*subject 3"):
            check_planned_trials(Path("design.mat"), by_eye, 3, n_sessions=1, trials_per_session=4)


class TestStimulusTable:
    trials_of_subjects = {1: 96, 2: 96, 5: 72}  # noqa: RUF012

    def found(self, small: SmallNSD, table: pd.DataFrame, tmp_path: Path) -> list[str]:
        path = tmp_path / "table.csv"
        table.to_csv(path)
        return contradictions(
            read_design(small.design_path),
            read_stimulus_table(path, list(self.trials_of_subjects)),
            self.trials_of_subjects,
            small.design_path,
            path,
        )

    def table(self, small: SmallNSD, shown: dict[int, int] | None = None) -> pd.DataFrame:
        design = reference.design(small.design_path)
        return stimulus_table(*design, n_images=144, shown_trials=shown)

    @pytest.mark.parametrize("shown", [None, {1: 96, 2: 96, 5: 72}])
    def test_what_lies_beyond_a_subjects_sessions_is_not_compared(
        self, official: SmallNSD, tmp_path: Path, shown: dict[int, int] | None
    ) -> None:
        assert self.found(official, self.table(official, shown), tmp_path) == []
        rubbish = self.table(official, shown)
        columns = [f"subject5_rep{repetition}" for repetition in range(3)]
        beyond = (rubbish[columns] == 0) | (rubbish[columns] > 72)
        rubbish[columns] = rubbish[columns].mask(beyond, 9999)
        assert self.found(official, rubbish, tmp_path) == []

    def test_every_trial_is_compared(self, official: SmallNSD, tmp_path: Path) -> None:
        for trial in (1, 2, 40, 71, 72):
            table = self.table(official)
            columns = [f"subject5_rep{repetition}" for repetition in range(3)]
            table[columns] = table[columns].mask(table[columns] == trial, 0)
            (sentence,) = self.found(official, table, tmp_path)
            assert f"subject 5 at 1 of 72 trials: in trial {trial} the design shows" in sentence
            assert "the table no image" in sentence
            assert str(official.design_path) in sentence
            assert str(tmp_path / "table.csv") in sentence
            assert "download both again" in sentence

    def test_two_trials_exchanged(self, official: SmallNSD, tmp_path: Path) -> None:
        table = self.table(official)
        first, second = np.flatnonzero(table["subject1_rep0"])[:2].tolist()
        one, other = (int(table.at[row, "subject1_rep0"]) for row in (first, second))
        table.at[first, "subject1_rep0"], table.at[second, "subject1_rep0"] = other, one
        (sentence,) = self.found(official, table, tmp_path)
        assert "subject 1 at 2 of 96 trials" in sentence
        assert f"design shows nsd_id {first if one < other else second} (" in sentence
        assert f"the table nsd_id {second if one < other else first} (" in sentence

    def test_two_repetitions_exchanged(self, official: SmallNSD, tmp_path: Path) -> None:
        table = self.table(official)
        row = int(np.flatnonzero(table["subject2_rep2"])[0])
        first, second = (int(table.at[row, f"subject2_rep{item}"]) for item in (0, 1))
        table.at[row, "subject2_rep0"], table.at[row, "subject2_rep1"] = second, first
        (sentence,) = self.found(official, table, tmp_path)
        assert "subject 2 at 2 of 96 trials" in sentence
        assert "(repetition 1)" in sentence

    def test_a_trial_listed_twice(self, official: SmallNSD, tmp_path: Path) -> None:
        table = self.table(official)
        never = int(np.flatnonzero(table["subject1_rep0"] == 0)[0])
        table.loc[never, "subject1_rep0"] = 17
        (sentence,) = self.found(official, table, tmp_path)
        assert "subject 1 at 1 of 96 trials: in trial 17" in sentence

    def test_every_subject_that_contradicts_is_named(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        table = self.table(official)
        of_one = [f"subject1_rep{repetition}" for repetition in range(3)]
        of_two = [f"subject2_rep{repetition}" for repetition in range(3)]
        table[of_one], table[of_two] = table[of_two].to_numpy(), table[of_one].to_numpy()
        sentences = self.found(official, table, tmp_path)
        assert len(sentences) == 2
        assert "for subject 1 at" in sentences[0]
        assert "for subject 2 at" in sentences[1]

    def test_other_shared_images(self, official: SmallNSD, tmp_path: Path) -> None:
        table = self.table(official)
        table.loc[0, "shared1000"] = False
        (sentence,) = self.found(official, table, tmp_path)
        assert "sharedix lists 16 images and shared1000 marks 15" in sentence

    @pytest.mark.parametrize("as_written", [bool, int, str])
    def test_truth_values_in_any_spelling(
        self, official: SmallNSD, tmp_path: Path, as_written: type
    ) -> None:
        table = self.table(official)
        table["shared1000"] = table["shared1000"].astype(as_written)
        assert self.found(official, table, tmp_path) == []

    def test_a_column_is_missing(self, official: SmallNSD, tmp_path: Path) -> None:
        with pytest.raises(InputFileError) as raised:
            self.found(official, self.table(official).drop(columns="subject5_rep2"), tmp_path)
        assert str(tmp_path / "table.csv") in str(raised.value)
        assert "subject5_rep2" in str(raised.value)

    @pytest.mark.parametrize("wrong", ["many", "", "1.5", "inf"])
    def test_a_value_that_is_no_whole_number(
        self, official: SmallNSD, tmp_path: Path, wrong: str
    ) -> None:
        table = self.table(official).astype({"subject5_rep1": object})
        table.loc[3, "subject5_rep1"] = wrong
        with pytest.raises(InputFileError) as raised:
            self.found(official, table, tmp_path)
        assert "column subject5_rep1" in str(raised.value)
        assert "download it again" in str(raised.value)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 50, b"<html>404</html>"])
    def test_a_file_that_is_no_table(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        with pytest.raises(InputFileError) as raised:
            read_stimulus_table(path, [1, 5])
        assert f"stimulus table {path} cannot be read" in str(raised.value)
