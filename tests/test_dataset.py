"""Where files lie, what shape a dataset has, and which subjects a run takes."""

import json
from pathlib import Path

import pytest
from small_nsd import SESSIONS, SmallNSD

from nsd_prep.core.errors import (
    InputFileError,
    MissingFilesError,
    ParameterError,
    PreflightError,
)
from nsd_prep.core.folders import absolute
from nsd_prep.dataset.layout import chosen_subjects
from nsd_prep.pipeline.loading import look_at_sessions
from nsd_prep.sources.opening import open_dataset


@pytest.fixture
def empty_official(tmp_path: Path) -> Path:
    (tmp_path / "nsddata").mkdir()
    return tmp_path


@pytest.fixture
def empty_flat(tmp_path: Path) -> Path:
    (tmp_path / "metadata").mkdir()
    return tmp_path


class TestPaths:
    def test_the_official_layout_is_the_buckets(self, empty_official: Path) -> None:
        dataset = open_dataset(empty_official)
        betas = "nsddata_betas/ppdata/subj07/func1pt8mm/betas_fithrf_GLMdenoise_RR"
        roi = "nsddata/ppdata/subj07/func1pt8mm/roi"
        paths = {
            dataset.session_file(7, 3): f"{betas}/betas_session03.hdf5",
            dataset.session_file(7, 40): f"{betas}/betas_session40.hdf5",
            dataset.ncsnr_file(7): f"{betas}/ncsnr.nii.gz",
            dataset.roi_file(7, "streams"): f"{roi}/streams.nii.gz",
            dataset.roi_file(7, "prf-visualrois", "lh"): f"{roi}/lh.prf-visualrois.nii.gz",
            dataset.roi_file(7, "HCP_MMP1", "rh"): f"{roi}/rh.HCP_MMP1.nii.gz",
            dataset.label_table(
                7, "floc-faces"
            ): "nsddata/freesurfer/subj07/label/floc-faces.mgz.ctab",
            dataset.design_file: "nsddata/experiments/nsd/nsd_expdesign.mat",
            dataset.stimulus_table: "nsddata/experiments/nsd/nsd_stim_info_merged.csv",
            dataset.images_file: "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
        }
        assert {path: str(path.relative_to(empty_official)) for path in paths} == paths

    def test_the_flat_layout_is_a_local_copy(self, empty_flat: Path) -> None:
        dataset = open_dataset(empty_flat)
        paths = {
            dataset.session_file(7, 3): "subj07/betas/betas_session03.hdf5",
            dataset.ncsnr_file(7): "subj07/betas/ncsnr.nii.gz",
            dataset.roi_file(7, "streams"): "subj07/rois/streams.nii.gz",
            dataset.roi_file(7, "prf-visualrois", "lh"): "subj07/rois/lh.prf-visualrois.nii.gz",
            dataset.design_file: "metadata/nsd_expdesign.mat",
            dataset.stimulus_table: "metadata/nsd_stim_info_merged.csv",
            dataset.images_file: "stimuli/nsd_stimuli.hdf5",
        }
        assert {path: str(path.relative_to(empty_flat)) for path in paths} == paths
        assert dataset.label_table(7, "streams") is None

    @pytest.mark.parametrize(
        ("preparation", "folder"),
        [
            ("b1", "betas_assumehrf"),
            ("b2", "betas_fithrf"),
            ("b3", "betas_fithrf_GLMdenoise_RR"),
            (None, "betas_fithrf_GLMdenoise_RR"),
        ],
    )
    def test_a_preparation_chooses_the_folder_of_betas_and_ncsnr(
        self, empty_official: Path, preparation: str | None, folder: str
    ) -> None:
        dataset = open_dataset(empty_official, preparation)  # type: ignore[arg-type]
        assert dataset.session_file(1, 1).parent.name == folder
        assert dataset.ncsnr_file(1).parent.name == folder
        assert dataset.preparation == folder

    def test_the_flat_layout_holds_one_preparation(self, empty_flat: Path) -> None:
        with pytest.raises(ParameterError, match=r"b2 cannot be chosen.*; choose none\.$"):
            open_dataset(empty_flat, "b2")

    def test_the_flat_layout_holds_one_space(self, empty_flat: Path) -> None:
        advice = r"; give a root in the official layout, or choose func1pt8mm\.$"
        with pytest.raises(ParameterError, match=rf"fsaverage cannot be chosen.*{advice}"):
            open_dataset(empty_flat, space="fsaverage")

    def test_files_that_were_written_are_found(self, small: SmallNSD) -> None:
        dataset = open_dataset(small.root)
        assert dataset.layout == small.layout
        assert dataset.session_file(5, 3) == small.betas_path(5, 3)
        assert dataset.session_file(5, 3).exists()
        assert dataset.ncsnr_file(2).exists()
        assert dataset.roi_file(2, "streams", "rh").exists()
        assert dataset.design_file.exists()
        assert dataset.stimulus_table.exists()

    def test_a_relative_root_is_made_absolute(
        self, empty_official: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(empty_official.parent)
        assert open_dataset(Path(empty_official.name)).root == empty_official

    @pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x/" * 3000])
    def test_a_path_that_no_disk_takes_is_refused(self, name: str) -> None:
        with pytest.raises(ParameterError, match="cannot be used"):
            absolute(name)


class TestShape:
    def test_a_root_without_description_is_nsd(self, empty_official: Path) -> None:
        dataset = open_dataset(empty_official)
        assert dataset.is_nsd
        assert dataset.name == "NSD"
        assert dataset.subjects == (1, 2, 3, 4, 5, 6, 7, 8)
        assert [dataset.sessions[s] for s in dataset.subjects] == [40, 40, 32, 30, 40, 32, 40, 30]
        assert sum(dataset.trials(subject) for subject in dataset.subjects) == 213_000

    def test_the_description_gives_the_shape(self, small_dataset) -> None:
        assert not small_dataset.is_nsd
        assert small_dataset.name == "small"
        assert dict(small_dataset.sessions) == SESSIONS
        assert small_dataset.trials_per_session == 24
        assert small_dataset.trials(5) == 72

    @pytest.mark.parametrize(
        ("content", "where"),
        [
            ("{", "the whole file"),
            ('{"name": "x", "trials_per_session": 30}', "sessions"),
            ('{"name": "x", "trials_per_session": 0, "sessions": {"1": 6}}', "trials_per_session"),
            ('{"name": "x", "trials_per_session": 30, "sessions": {}}', "sessions"),
            ('{"name": "x", "trials_per_session": 30, "sessions": {"one": 6}}', "sessions.one"),
            ('{"name": "x", "trials_per_session": 30, "sessions": {"1": -1}}', "sessions.1"),
            ('{"name": "", "trials_per_session": 30, "sessions": {"1": 6}}', "name"),
            ('{"name": "a\\u0000b", "trials_per_session": 30, "sessions": {"1": 6}}', "name"),
            ('{"name": "x", "trials_per_session": true, "sessions": {"1": 6}}', "trials_per_"),
            ('{"name": "x", "trials_per_session": 30, "sessions": {"1": 6, "1": 5}}', "twice"),
            ('{"name": "x", "trials_per_session": 30, "sessions": {"01": 6}}', "sessions.01"),
        ],
    )
    def test_a_wrong_description_is_refused(
        self, empty_flat: Path, content: str, where: str
    ) -> None:
        (empty_flat / "dataset.json").write_text(content)
        with pytest.raises(InputFileError) as raised:
            open_dataset(empty_flat)
        assert str(empty_flat / "dataset.json") in str(raised.value)
        assert where in str(raised.value)
        assert "correct or remove it" in str(raised.value)

    @pytest.mark.parametrize("subject", [0, 9])
    def test_a_description_names_subjects_1_to_8(self, empty_flat: Path, subject: int) -> None:
        description = {"name": "x", "trials_per_session": 3, "sessions": {"1": 1, str(subject): 1}}
        (empty_flat / "dataset.json").write_text(json.dumps(description))
        with pytest.raises(InputFileError, match=rf"at sessions.{subject}.*subjects 1 to 8"):
            open_dataset(empty_flat)

    def test_a_root_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError) as raised:
            open_dataset(tmp_path / "nowhere")
        assert str(tmp_path / "nowhere") in str(raised.value)
        assert "'metadata' (flat layout) as the root." in str(raised.value)

    def test_datasets_beside_each_other_are_all_named_and_each_once(self, tmp_path: Path) -> None:
        for name in ("b", "a"):
            (tmp_path / name / "nsddata").mkdir(parents=True)
        (tmp_path / "other").mkdir()
        (tmp_path / "0").symlink_to(tmp_path / "a")
        there = f"there are datasets at {tmp_path / 'a'}, {tmp_path / 'b'}: give one of these"
        with pytest.raises(MissingFilesError, match=there):
            open_dataset(tmp_path)
        (tmp_path / "b" / "nsddata").rmdir()
        with pytest.raises(MissingFilesError, match=f"there is one at {tmp_path / 'a'}: give that"):
            open_dataset(tmp_path)

    def test_a_root_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(MissingFilesError, match="is not a folder"):
            open_dataset(tmp_path / "file")

    def test_a_root_in_neither_layout(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError, match=r"'nsddata'.*'metadata'"):
            open_dataset(tmp_path)


class TestChosenSubjects:
    def test_all_subjects_where_none_is_named(self, small_dataset) -> None:
        assert chosen_subjects(small_dataset, None) == (1, 2, 5)

    def test_the_order_given_is_kept(self, small_dataset) -> None:
        assert chosen_subjects(small_dataset, [5, 1]) == (5, 1)

    @pytest.mark.parametrize("subject", [0, 3, 9, -1])
    def test_a_subject_that_the_dataset_lacks(self, small_dataset, subject: int) -> None:
        with pytest.raises(ParameterError) as raised:
            chosen_subjects(small_dataset, [1, subject])
        message = str(raised.value)
        assert message.startswith(f"Subject {subject} is not in the dataset small")
        assert "give some of 1, 2, 5 with subjects=" in message

    def test_a_subject_given_twice(self, small_dataset) -> None:
        with pytest.raises(ParameterError, match=r"Subject 2 is given more than once.*subjects="):
            chosen_subjects(small_dataset, [2, 1, 2])


class TestMissingBetas:
    """What lies in place of betas that are not there is said."""

    FOLDER = "nsddata_betas/ppdata/subj01"
    B3 = "betas_fithrf_GLMdenoise_RR"

    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            (f"func1pt8mm/{B3}/betas_session01.nii.gz", "it is NIfTI: download the .hdf5 files"),
            (
                "func1pt8mm/betas_assumehrf/betas_session01.hdf5",
                "of the preparation b1: choose b1 to read it",
            ),
            (
                "func1pt8mm/betas_fithrf/betas_session01.hdf5",
                "of the preparation b2: choose b2 to read it",
            ),
            (
                f"func1mm/{B3}/betas_session01.hdf5",
                "download func1pt8mm, or choose func1mm to read it",
            ),
            ("func1mm/betas_fithrf/betas_session01.nii.gz", "in the space func1mm"),
            (f"fsaverage/{B3}/lh.betas_session01.mgh", "in the space fsaverage"),
            (f"nativesurface/{B3}/lh.betas_session01.hdf5", "in the space nativesurface"),
        ],
    )
    def test_other_forms_in_the_official_layout(
        self, empty_official: Path, name: str, advice: str
    ) -> None:
        path = empty_official / self.FOLDER / name
        path.parent.mkdir(parents=True)
        path.touch()
        with pytest.raises(PreflightError) as raised:
            look_at_sessions(open_dataset(empty_official), {1: (1, 2)}, {})
        assert "2 session files are missing" in str(raised.value)
        assert f"found {path}: it is " in str(raised.value)
        assert advice in str(raised.value)

    def test_other_forms_in_the_flat_layout(self, empty_flat: Path) -> None:
        folder = empty_flat / "subj01" / "betas"
        folder.mkdir(parents=True)
        for session in (1, 2):
            (folder / f"betas_session{session:02d}.nii.gz").touch()
            (folder / f"lh.betas_session{session:02d}.mgh").touch()
        with pytest.raises(PreflightError) as raised:
            look_at_sessions(open_dataset(empty_flat), {1: (1, 2)}, {})
        found = [line.strip() for line in str(raised.value).splitlines() if "found" in line]
        assert found == [
            f"found {folder}/betas_session01.nii.gz: it is NIfTI: download the .hdf5 files "
            "beside it",
            f"found {folder}/lh.betas_session01.mgh: it is on a surface: download func1pt8mm",
        ]

    def test_where_nothing_lies_nothing_is_said(self, empty_flat: Path) -> None:
        with pytest.raises(PreflightError, match="1 session file is missing") as raised:
            look_at_sessions(open_dataset(empty_flat), {1: (1,)}, {})
        assert "found" not in str(raised.value)


def test_a_link_that_leads_nowhere_is_named_in_whatever_folder_it_stands(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "subj01").symlink_to(tmp_path / "unmounted")
    dataset = open_dataset(tmp_path)
    with pytest.raises(InputFileError, match=f"{tmp_path}/subj01 is a broken link"):
        dataset.exists(dataset.session_file(1, 1))
