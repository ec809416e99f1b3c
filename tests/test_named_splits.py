"""Splits by name: published rules on a design of NSD's size, and a user's own."""

from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
import pytest
from single_trials_inputs import Subject
from small_nsd import SmallNSD

from nsd_prep.checks.published_values import check_published_splits
from nsd_prep.checks.registry import describe
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import parameters
from nsd_prep.dataset.design import Design
from nsd_prep.dataset.published import SESSION_COUNTS, SPLIT_SIZES
from nsd_prep.dataset.splits import SPLITS, read_split_file, split_columns, training_trials
from nsd_prep.dataset.trials import image_table, trial_table
from nsd_prep.pipeline.loading import map_trials
from nsd_prep.pipeline.run import plan_run
from nsd_prep.synthetic.design import make_design
from nsd_prep.synthetic.plan import PLANS

#: Subjects (1-based) by the sessions that they took part in.
SUBJECTS = (1, 3, 4)


@pytest.fixture(scope="module")
def design() -> Design:
    """Return a design of NSD's size: other images, the same rules."""
    drawn = make_design(PLANS["full"], seed=0)
    return Design(drawn.masterordering - 1, drawn.subjectim - 1, drawn.sharedix - 1)


@pytest.fixture(scope="module")
def tables(design: Design) -> dict[int, pd.DataFrame]:
    usable = design.shared_nsd_ids[:515]
    return {
        subject: trial_table(design, subject, SESSION_COUNTS, 750, np.sort(usable))
        for subject in SUBJECTS
    }


def by_loop(design: Design, subject: int) -> dict[str, list[str]]:
    """Return the splits of a subject as they are stated, trial after trial."""
    n_sessions = SESSION_COUNTS[subject]
    shared = set(design.shared_nsd_ids.tolist())
    shown = design.nsd_id_of_image[subject - 1][design.image_of_trial].tolist()[: 750 * n_sessions]
    before = {nsd_id for trial, nsd_id in enumerate(shown) if trial // 750 < n_sessions - 3}
    columns: dict[str, list[str]] = {"shared1000": [], "shared1000_37": [], "algonauts2023": []}
    for trial, nsd_id in enumerate(shown):
        is_late = trial // 750 >= n_sessions - 3
        columns["shared1000"].append("test" if nsd_id in shared else "train")
        columns["shared1000_37"].append("unused" if is_late else columns["shared1000"][-1])
        if not is_late:
            algonauts = "train"
        elif nsd_id in before or (nsd_id in shared and n_sessions < 40):
            algonauts = "unused"
        else:
            algonauts = "test"
        columns["algonauts2023"].append(algonauts)
    return columns


class TestOnADesignOfNSDsSize:
    @pytest.mark.parametrize("subject", SUBJECTS)
    def test_every_trial_against_a_loop(
        self, design: Design, tables: dict[int, pd.DataFrame], subject: int
    ) -> None:
        for name, expected in by_loop(design, subject).items():
            assert tables[subject][name].tolist() == expected, name

    @pytest.mark.parametrize(("subject", "n_sessions"), [(1, 37), (3, 29), (4, 27)])
    def test_sizes_without_the_last_three_sessions(
        self, tables: dict[int, pd.DataFrame], subject: int, n_sessions: int
    ) -> None:
        parts = tables[subject]["shared1000_37"].value_counts()
        assert parts["train"] + parts["test"] == n_sessions * 750
        assert parts["unused"] == 3 * 750

    def test_sizes_of_all_sessions(self, tables: dict[int, pd.DataFrame]) -> None:
        trials = tables[1]
        assert trials["shared1000"].value_counts().to_dict() == {"train": 27_000, "test": 3_000}
        images = image_table(trials)
        assert images["shared1000"].value_counts().to_dict() == {"train": 9_000, "test": 1_000}
        assert (images["shared515"] == "test").sum() == 515

    def test_an_image_is_train_or_test_and_never_both(
        self, tables: dict[int, pd.DataFrame]
    ) -> None:
        for trials in tables.values():
            for name in SPLITS:
                parts = trials.loc[trials[name] != "unused"].groupby("nsd_id")[name].nunique()
                assert parts.max() == 1, name

    def test_thirty_thousand_trials_take_milliseconds(self, design: Design) -> None:
        nsd_id = design.nsd_id_of_trial(1, 30_000)
        usable = np.sort(design.shared_nsd_ids)
        started = process_time()
        split_columns(nsd_id, design, 1, SESSION_COUNTS, 750, usable)
        assert process_time() - started < 0.2

    def test_a_copy_with_fewer_sessions_lacks_the_test_images(self, design: Design) -> None:
        sessions = {1: 10}
        trials = trial_table(design, 1, sessions, 750, np.sort(design.shared_nsd_ids[:50]))
        assert set(trials["shared1000_37"]) == {"train", "test"}
        assert "algonauts2023" not in trials
        with pytest.raises(ParameterError, match=r"algonauts2023 cannot be made: .* last 3 sess"):
            training_trials(trials, "algonauts2023")


class TestPublishedSizes:
    @staticmethod
    def trials(subject: int, moved: int = 0) -> pd.DataFrame:
        """Return a row for each image, as many in each part as published, but for some images."""
        parts: dict[str, list[str]] = {}
        for split, sizes in SPLIT_SIZES.items():
            train, test = sizes[subject]
            columns = ["train"] * (train - moved) + ["test"] * (test + moved)
            parts[split] = columns + ["unused"] * (10_000 - len(columns))
        table = pd.DataFrame(parts | {"nsd_id": np.arange(10_000)})
        # Every image twice: images are counted, not trials.
        return pd.concat([table, table]).assign(session=SESSION_COUNTS[subject])

    @pytest.mark.parametrize("subject", range(1, 9))
    def test_images_of_each_part_are_compared(self, subject: int) -> None:
        checks = check_published_splits(subject, self.trials(subject))
        assert [one.verdict for one in checks] == ["passed", "passed"]
        for check in check_published_splits(subject, self.trials(subject, moved=1)):
            assert check.verdict == "failed"
            assert str(check.details["counts"]) in describe(check).value

    def test_sessions_that_are_missing_leave_nothing_to_compare(self) -> None:
        assert check_published_splits(1, self.trials(1).assign(session=39)) == []

    def test_they_add_up_to_the_images_of_the_sessions(self) -> None:
        # Decoders before 2024 took the sessions that the challenge trains on.
        for subject in range(1, 9):
            assert (
                sum(SPLIT_SIZES["shared1000_37"][subject])
                == (SPLIT_SIZES["algonauts2023"][subject][0])
            )

    @pytest.mark.parametrize("subject", SUBJECTS)
    def test_a_design_of_nsds_size_adds_up_too(
        self, tables: dict[int, pd.DataFrame], subject: int
    ) -> None:
        images = image_table(tables[subject])
        without_last = images["shared1000_37"].value_counts()
        challenge = images["algonauts2023"].value_counts()
        assert without_last["train"] + without_last["test"] == challenge["train"]


def test_three_sessions_have_none_before_them(official: SmallNSD) -> None:
    trials = Subject.load(official, 5).trials
    assert [name for name in SPLITS if name in trials] == ["shared1000", "shared515", "nsd_prep"]
    assert {"shared1000_37", "algonauts2023"} < set(Subject.load(official, 1).trials)


class TestOwnSplit:
    def test_it_is_a_column_of_the_trials(self, official: SmallNSD, tmp_path: Path) -> None:
        trials = Subject.load(official, 1).trials
        nsd_ids = np.unique(trials["nsd_id"])
        parts = dict(zip(nsd_ids[:9].tolist(), ["test"] * 3 + ["train"] * 6, strict=True))
        path = tmp_path / "ids.csv"
        lines = [f"{nsd_id},{part}" for nsd_id, part in parts.items()]
        path.write_text("\n".join(["nsd_id,split", *lines]) + "\n")
        options = parameters(
            nsd_root=str(official.root),
            output_dir=tmp_path / "out",
            single_trials=True,
            split_file=path,
            normalise="train-only",
        )
        run = plan_run(**options | {"images": "all", "normalise": "session"})
        mapped = map_trials(run)
        table = mapped.all_trials[1]
        assert table["split_file"].tolist() == [
            parts.get(nsd_id, "unused") for nsd_id in table["nsd_id"]
        ]
        assert str(path) in [record.path for record in mapped.files]
        assert run.training_split == "split_file"
        path.write_text(f"nsd_id,split\n{nsd_ids[0]},train\n")
        run = plan_run(**options)
        with pytest.raises(ParameterError, match="show no training image of the split split_file"):
            map_trials(run)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nsd_id,part\n0,train\n", "cannot be read"),
            ("nsd_id,split\n0.5,train\n", "cannot be read"),
            ("nsd_id,split\n0,validation\n", "'validation': expected one of train, test, unused"),
            ("nsd_id,split\n0,\n", "into 'nan'"),
            ("nsd_id,split\n0,train\n9,test\n", "lists nsd_id 9 that no subject"),
            ("nsd_id,split\n8,train\n9,test\n", "lists nsd_id 8 and 1 other image that no"),
            ("nsd_id,split\n0,train\n0,test\n", "lists nsd_id 0 more than once"),
        ],
    )
    def test_bad_files_are_refused(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "ids.csv"
        path.write_text(text)
        with pytest.raises(ParameterError, match=message):
            read_split_file(path, np.arange(3))

    def test_two_splits_are_one_too_many(self, official: SmallNSD, tmp_path: Path) -> None:
        path = tmp_path / "ids.csv"
        path.write_text("nsd_id,split\n0,train\n")
        options = parameters(
            nsd_root=str(official.root), single_trials=True, split_file=path, split="shared515"
        )
        both = rf"Both split='shared515' and split_file='{path}' are given: give one of them\."
        with pytest.raises(ParameterError, match=both):
            plan_run(**options)
        with pytest.raises(ParameterError, match="is not there: correct split_file="):
            plan_run(**options | {"split_file": tmp_path / "none.csv", "split": "shared1000"})
