"""Inputs that are not what they should be are refused before anything is computed.

Each error is one of the library's, in one sentence that names the file and what was found there.
"""

import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
from brainscore_inputs import write_features
from hypothesis import given
from hypothesis import strategies as st
from library_stages import planned
from small_nsd import SmallNSD, write_small_nsd

import nsd_prep
from nsd_prep.analysis.features import Features
from nsd_prep.core.errors import (
    InputFileError,
    NSDPrepError,
    OutputError,
    ParameterError,
    PreflightError,
)
from nsd_prep.dataset import betas
from nsd_prep.dataset.design import read_design
from nsd_prep.dataset.regions import read_regions_file
from nsd_prep.dataset.volumes import read_label_volume, read_ncsnr
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.sources.opening import open_dataset

#: The grid of the volumes that are written here.
GRID = (2, 3, 4)
SECONDS = 20


@contextmanager
def in_time() -> Iterator[None]:
    """Fail where what is within waits for what never comes, as for a pipe that nobody writes."""

    def fail(*_: object) -> None:
        raise TimeoutError("it waits without end")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def look(root: Path, **asked: Any) -> str:
    """Return what is wrong with the inputs of a run, whose betas must not be read."""
    with pytest.MonkeyPatch.context() as patch, in_time(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        patch.setattr(betas, "read_voxels", lambda *_: pytest.fail("betas were read"))
        with pytest.raises(NSDPrepError) as raised:
            load_inputs(planned(root, root.parent / "out", **{"regions": ["V1"]} | asked))
    problems = getattr(raised.value, "problems", (str(raised.value),))
    for problem in problems:
        assert "\n" not in problem.replace("\n      ", "")  # a list of files may follow
        assert problem.endswith(".") or "missing" in problem
    return str(raised.value)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volumes") / "volume.nii.gz"


class TestVolumes:
    @staticmethod
    def write(path: Path, values: np.ndarray) -> None:
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)

    @pytest.mark.parametrize("read", [read_label_volume, read_ncsnr])
    @pytest.mark.parametrize(
        "dtype",
        [
            np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]),
            np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]),
            np.dtype(np.complex64),
            np.dtype(np.complex128),
        ],
        ids=["RGB", "RGBA", "complex64", "complex128"],
    )
    def test_numbers_that_are_not_real(
        self, volume: Path, read: Callable[[Path], Any], dtype: np.dtype[Any]
    ) -> None:
        self.write(volume, np.zeros(GRID, dtype))
        with pytest.raises(InputFileError, match="expected real numbers") as raised:
            read(volume)
        assert str(volume) in str(raised.value)

    @given(value=st.floats(allow_nan=False), place=st.integers(0, 23), whole=st.booleans())
    def test_a_value_is_read_as_it_is_or_named(self, volume: Path, value: float, place: int, whole):
        values = np.zeros(GRID)
        values.flat[place] = np.round(value) if whole else value
        found = values.flat[place]
        self.write(volume, values)
        sound = {
            read_ncsnr: 0 <= found <= 100,
            read_label_volume: -1 <= found <= 32767 and found == np.round(found),
        }
        for read, is_sound in sound.items():
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if is_sound:
                    read_values = read(volume).values
                    expected = np.asarray(found, read_values.dtype)
                    assert read_values.transpose(2, 1, 0).flat[place] == expected
                    continue
                with pytest.raises(InputFileError) as raised:
                    read(volume)
            assert str(volume) in str(raised.value)
            assert f"{found:g}" in str(raised.value)


class TestDesign:
    SOUND: ClassVar[dict[str, Any]] = {
        "masterordering": np.array([[1, 2, 3, 1, 2, 3]]),
        "subjectim": np.array([[2, 5, 7], [2, 5, 8]]),
        "sharedix": np.array([[2, 5]]),
    }

    def refused(self, path: Path, **changed: Any) -> str:
        scipy.io.savemat(path, self.SOUND | changed)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            with pytest.raises(InputFileError) as raised:
                read_design(path)
        assert str(path) in str(raised.value)
        return str(raised.value)

    @pytest.mark.parametrize("name", SOUND)
    @pytest.mark.parametrize(
        "wrong",
        [
            np.full((2, 3), 1e18),
            np.full((2, 3), -(2**63)),
            np.full((2, 3), 2**64 - 1, np.uint64),
            np.full((2, 3), np.nan),
            np.full((2, 3), 1.5),
            np.ones((2, 3, 2)),
            np.ones((2, 3), np.complex128),
            scipy.sparse.csc_matrix(np.ones((2, 3))),
            np.empty((0, 3)),
            np.array([["ab", "cd"]]),
            np.array([[{"x": 1}]], dtype=object),
        ],
        ids=lambda values: f"{type(values).__name__}-{values.dtype}-{values.shape}-{values.size}",
    )
    def test_what_is_no_matrix_of_ids(self, tmp_path: Path, name: str, wrong: Any) -> None:
        text = self.refused(tmp_path / "design.mat", **{name: wrong})
        assert name in text

    def test_an_id_that_is_out_of_bounds_is_named(self, tmp_path: Path) -> None:
        changed = self.SOUND["masterordering"].astype(float)
        changed[0, 3] = 1e18
        assert "1e+18" in self.refused(tmp_path / "design.mat", masterordering=changed)

    def test_an_id_that_stands_twice(self, tmp_path: Path) -> None:
        both = {"subjectim": np.array([[2, 2, 7], [2, 2, 8]]), "sharedix": np.array([[2, 2]])}
        assert "the id 2 twice in sharedix" in self.refused(tmp_path / "design.mat", **both)
        row = {"subjectim": np.array([[2, 5, 7], [2, 5, 5]])}
        text = self.refused(tmp_path / "design.mat", **row)
        assert "the id 5 twice in subjectim, for subject 2" in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("description")
    (root / "metadata").mkdir()
    return root


class TestDescription:
    SOUND: ClassVar[dict[str, Any]] = {
        "name": "small",
        "trials_per_session": 30,
        "sessions": {"1": 2},
    }

    def refused(self, root: Path, content: str | bytes) -> str:
        path = root / "dataset.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputFileError) as raised:
            open_dataset(root)
        text = str(raised.value)
        assert str(path) in text
        assert len(text) < 600
        return text

    @pytest.mark.parametrize(
        ("changed", "where", "found"),
        [
            ({"trials_per_session": True}, "trials_per_session", "True"),
            ({"trials_per_session": 0}, "trials_per_session", "0"),
            ({"trials_per_session": "30"}, "trials_per_session", "'30'"),
            ({"trials_per_session": 30.0}, "trials_per_session", "30.0"),
            ({"sessions": {"1": True}}, "sessions.1", "True"),
            ({"sessions": {"9": 2}}, "sessions", "'9'"),
            ({"sessions": {}}, "sessions", "{}"),
            ({"name": "a\0b"}, "name", r"a\x00b"),
            ({"name": "NSD"}, "name", "'NSD'"),
            ({"name": "nsd"}, "name", "'nsd'"),
            ({"name": "Allen2022"}, "name", "Allen2022"),
            ({"name": ""}, "name", "''"),
            ({"name": "a" * 101}, "name", "aaa"),
            ({"name": "a" * 10**6}, "name", "aaa"),
            ({"synthetic": {"truth": "../up"}}, "synthetic.truth", "../up"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, described: Path, changed: dict[str, Any], where: str, found: str
    ) -> None:
        text = self.refused(described, json.dumps(self.SOUND | changed))
        assert where in text
        assert found in text

    @pytest.mark.parametrize(
        "content",
        [
            '{"name": "a", "trials_per_session": 3, "sessions": {"1": 2, "1": 3}}',
            '{"name": "a", "name": "b", "trials_per_session": 3, "sessions": {"1": 2}}',
        ],
    )
    def test_what_is_given_twice(self, described: Path, content: str) -> None:
        assert "is given twice" in self.refused(described, content)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff\xfe",
            b'{"name": "\\ud800", "trials_per_session": 3, "sessions": {"1": 2}}',
            b"[" * 100_000,
            b"1" * 10_000,
            b"NaN",
        ],
        ids=["empty", "not UTF-8", "half a character", "nested", "long number", "NaN"],
    )
    def test_what_is_no_description(self, described: Path, content: bytes) -> None:
        self.refused(described, content)

    @given(
        name=st.sampled_from(["name", "trials_per_session", "sessions", "synthetic"]), value=JSON
    )
    def test_any_value_is_taken_as_it_is_or_refused(self, described: Path, name: str, value: Any):
        content = self.SOUND | {name: value}
        (described / "dataset.json").write_text(json.dumps(content))
        try:
            dataset = open_dataset(described)
        except InputFileError:
            return
        assert dataset.name == content["name"]
        assert dataset.trials_per_session == content["trials_per_session"]
        assert dataset.trials_per_session is not True
        assert {str(subject): n for subject, n in dataset.sessions.items()} == content["sessions"]


@pytest.fixture(scope="module")
def regions_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("regions") / "regions.toml"


class TestRegionsFile:
    def refused(self, path: Path, content: str) -> str:
        path.write_text(content)
        with pytest.raises(ParameterError) as raised:
            read_regions_file(path)
        assert str(path) in str(raised.value)
        return str(raised.value)

    @pytest.mark.parametrize(
        ("label", "found"),
        [
            ("true", "True"),
            ("-1", "-1"),
            ("0", "0"),
            ("1.0", "1.0"),
            ("32768", "32768"),
            ('""', "''"),
            ("1979-05-27", "1979"),
        ],
    )
    def test_a_label_that_is_none(self, regions_file: Path, label: str, found: str) -> None:
        text = self.refused(regions_file, f"[FFA]\nlabels.floc-faces = [1, {label}]")
        assert "FFA.labels.floc-faces.1" in text
        assert found in text

    @pytest.mark.parametrize("volume", ["../floc-faces", r"a\u0000b", "", "a/b", "v" * 300])
    def test_a_volume_that_is_no_part_of_a_file_name(self, regions_file: Path, volume: str) -> None:
        self.refused(regions_file, f'[FFA]\nlabels."{volume}" = [1]')

    @pytest.mark.parametrize(
        "content",
        ["[FFA]\nlabels = {}", "[FFA]\nlabels.a = []", "FFA = 1", f"a = {'[' * 100_000}"],
        ids=["no volume", "no label", "no table", "nested"],
    )
    def test_what_is_no_region(self, regions_file: Path, content: str) -> None:
        self.refused(regions_file, content)

    @given(labels=st.lists(st.integers() | st.booleans() | st.floats(allow_nan=False), min_size=1))
    def test_labels_are_numbers_from_1(self, regions_file: Path, labels: list[Any]) -> None:
        sound = all(type(label) is int and 1 <= label <= 32767 for label in labels)
        content = f"[FFA]\nlabels.floc-faces = {json.dumps(labels).replace('Infinity', 'inf')}"
        if not sound:
            self.refused(regions_file, content)
            return
        regions_file.write_text(content)
        assert read_regions_file(regions_file)["FFA"].labels == {"floc-faces": tuple(labels)}


def _pipe(regions_file: Path) -> None:
    os.mkfifo(regions_file)


def _device(regions_file: Path) -> None:
    regions_file.symlink_to("/dev/zero")


#: Which file of the dataset, and what a run needs for it to be opened.
FILES: dict[str, tuple[Callable[[SmallNSD], Path], dict[str, Any]]] = {
    "session": (lambda small: small.betas_path(1, 1), {}),
    "design": (lambda small: small.design_path, {}),
    "stimulus table": (lambda small: small.table_path, {}),
    "description": (lambda small: small.root / "dataset.json", {}),
    "ncsnr": (lambda small: small.ncsnr_path(1), {}),
    "labels": (lambda small: small.roi_path(1, "prf-visualrois"), {}),
    "label table": (lambda small: small.label_table_path(1, "floc-faces"), {"regions_file": "r"}),
    "regions file": (lambda small: small.root / "r", {"regions_file": "r"}),
    "features": (lambda small: small.root / "f", {"features": "f"}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SmallNSD:
    small = write_small_nsd(tmp_path_factory.mktemp("only-files") / "nsd")
    (small.root / "r").write_text('[FFA]\nlabels.floc-faces = ["FFA-1"]\n')
    (small.root / "f").write_bytes(b"")
    return small


class TestOnlyFilesAreOpened:
    @pytest.mark.parametrize("put", [_pipe, _device, Path.mkdir], ids=["pipe", "device", "folder"])
    @pytest.mark.parametrize("what", FILES)
    def test_what_stands_in_place_of_a_file(
        self, whole: SmallNSD, what: str, put: Callable[[Path], None]
    ) -> None:
        find, options = FILES[what]
        path, aside = find(whole), whole.root.parent / "aside"
        path.rename(aside)
        put(path)
        try:
            asked = {name: whole.root / value for name, value in options.items()}
            text = look(whole.root, **asked)
        finally:
            path.rmdir() if path.is_dir() else path.unlink()
            aside.rename(path)
        assert str(path) in text
        assert "a folder" in text if put is Path.mkdir else "a pipe or a device" in text


class TestBetasInOtherFiles:
    def test_a_virtual_dataset_whose_source_is_missing(self, damageable: SmallNSD) -> None:
        path = damageable.betas_path(1, 1)
        shape = damageable.betas[1, 1].transpose(0, 3, 2, 1).shape
        layout = h5py.VirtualLayout(shape, np.int16)
        layout[...] = h5py.VirtualSource("gone.hdf5", "betas", shape)
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("betas", layout)
            assert not file["betas"][...].any(), "HDF5 reads zeros"
        text = look(damageable.root)
        assert str(path) in text
        assert "gone.hdf5" in text

    def test_external_storage_whose_file_is_missing(self, damageable: SmallNSD) -> None:
        path = damageable.betas_path(1, 1)
        shape = damageable.betas[1, 1].transpose(0, 3, 2, 1).shape
        n_bytes = 2 * int(np.prod(shape))
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", shape, np.int16, external=[("gone.raw", 0, n_bytes)])
        text = look(damageable.root)
        assert str(path) in text
        assert "gone.raw" in text

    def test_a_link_into_a_file_that_is_missing(self, damageable: SmallNSD) -> None:
        path = damageable.betas_path(1, 1)
        with h5py.File(path, "w") as file:
            file["betas"] = h5py.ExternalLink("gone.hdf5", "betas")
        assert str(path) in look(damageable.root)


@pytest.mark.parametrize("value", ["1e300", "inf", "-inf", "nan", "1.5", "", "x", "9" * 30])
def test_a_trial_that_is_no_number(official: SmallNSD, value: str) -> None:
    content = official.table_path.read_bytes()
    table = pd.read_csv(official.table_path, index_col=0).astype({"subject1_rep0": object})
    table.loc[3, "subject1_rep0"] = value
    try:
        official.write_table(table)
        text = look(official.root)
    finally:
        official.table_path.write_bytes(content)
    assert f"{official.table_path} has something in the column subject1_rep0" in text


@pytest.mark.parametrize("suffix", ["a" * 300, "a/b", "\0", "é"])
def test_a_suffix_that_is_no_part_of_a_file_name(official: SmallNSD, suffix: str) -> None:
    text = look(official.root, suffix=suffix)
    assert "suffix=" in text


def test_a_link_that_leads_nowhere_is_not_taken_for_a_file_that_is_not_there(
    damageable: SmallNSD,
) -> None:
    table = open_dataset(damageable.root).stimulus_table
    table.unlink(missing_ok=True)
    table.symlink_to(table.parent / "gone.csv")
    with pytest.raises(PreflightError, match=r"nsd_stim_info_merged.csv is a broken link"):
        load_inputs(planned(damageable.root, damageable.root.parent / "out", regions=["V1"]))


@pytest.mark.parametrize("images", ["all", "shared"])
def test_features_whose_ids_count_from_one(official: SmallNSD, tmp_path: Path, images: str) -> None:
    dataset = open_dataset(official.root)
    nsd_ids = read_design(dataset.design_file).shared_nsd_ids
    if images == "all":
        nsd_ids = pd.read_csv(dataset.stimulus_table)["nsdId"].to_numpy()
    path = tmp_path / "features.nc"
    values = np.random.default_rng(0).standard_normal((len(nsd_ids), 3))
    for added in (0, 1):
        write_features(path, Features(nsd_ids + added, values))
        asked = planned(official.root, tmp_path / "out", regions=["V1"], features=path)
        if not added:
            load_inputs(asked)
    with pytest.raises(PreflightError, match="seem to count from 1; subtract 1 from each"):
        load_inputs(asked)


def test_all_that_is_wrong_is_reported_together(damageable: SmallNSD) -> None:
    wrong = [damageable.betas_path(1, 2), damageable.ncsnr_path(2)]
    for path in wrong:
        path.unlink()
        path.mkdir()
    with pytest.raises(PreflightError) as raised:
        load_inputs(planned(damageable.root, damageable.root.parent / "out", regions=["V1"]))
    assert all(str(path) in str(raised.value) for path in wrong)


def test_voxels_that_nobody_has_are_said_before_anything_is_read(
    official: SmallNSD, tmp_path: Path
) -> None:
    asked = planned(official.root, tmp_path, regions=["V1"], single_trials=True, min_ncsnr=99.0)
    with pytest.raises(PreflightError, match="No voxel of subject 1 meets min_ncsnr=99: of"):
        load_inputs(asked)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file system of Linux")
@pytest.mark.parametrize("option", ["output_dir", "cache_dir"])
def test_a_folder_where_none_can_be_made(official: SmallNSD, tmp_path: Path, option: str) -> None:
    folders = {"output_dir": tmp_path / "out", option: Path("/proc/none")}
    with pytest.raises((OutputError, PreflightError), match="/proc/none cannot be made: nothing"):
        nsd_prep.prepare(nsd_root=official.root, regions=["V1"], progress=False, **folders)
