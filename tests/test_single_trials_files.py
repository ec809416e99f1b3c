"""Files of single trials: what is written is read, whole or not at all, and the same each time."""

import errno
import hashlib
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import netCDF4
import nibabel
import numpy as np
import pandas as pd
import pytest
import single_trials_reference as plain
import xarray as xr
from single_trials_inputs import Subject
from small_nsd import SmallNSD

from nsd_prep.core.errors import InputFileError, OutputError, ParameterError
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.dataset.trials import image_table
from nsd_prep.dataset.volumes import read_volume
from nsd_prep.flows.command import main
from nsd_prep.single_trials import TrialReader, brain_map, open_single_trials, write_map
from nsd_prep.single_trials.average import averaged_images
from nsd_prep.single_trials.normalise import INT16_STEP
from nsd_prep.single_trials.subject import SingleTrialOptions, write_single_trials_of_subject
from nsd_prep.single_trials.voxels import with_averaged_noise_ceiling
from nsd_prep.single_trials.writer import checked_sessions, write_rows

ENDINGS = {"netcdf": ".nc", "zarr": ".zarr"}
FORMS = [("float32", "netcdf"), ("int16", "netcdf")] + [
    (dtype, "zarr") for dtype in ("float32", "float16", "int16")
]

#: Asks a forked process for rows, twice; this process reads some in between.
FORKING = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

from nsd_prep.single_trials import TrialReader

reader = TrialReader(sys.argv[1])


def rows():
    try:
        return reader[[4, 1]].tolist()
    except RuntimeError as error:
        return str(error)


for _ in range(2):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        print(pool.submit(rows).result())
    reader[0]
"""

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def subject(official: SmallNSD) -> Subject:
    return Subject.load(official, 1)


@pytest.fixture
def expected(official: SmallNSD) -> np.ndarray:
    return plain.responses(official, 1, "session")


@pytest.fixture(params=list(ENDINGS))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"subj01{ENDINGS[request.param]}"


def format_of(path: Path) -> str:
    return {".nc": "netcdf", ".zarr": "zarr"}[path.suffix]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all names and files in a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    parts = [(str(file.relative_to(path)), file.read_bytes()) for file in files if file.is_file()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class TestWhatIsRead:
    @pytest.mark.parametrize(("dtype", "format"), FORMS)
    def test_responses(
        self, subject: Subject, expected: np.ndarray, tmp_path: Path, dtype: str, format: str
    ) -> None:
        path = tmp_path / f"subj01{ENDINGS[format]}"
        subject.write(path, dtype=dtype, format=format)
        tolerance = {"float32": 0, "float16": 0.002, "int16": 0.000501}[dtype]
        with open_single_trials(path) as dataset:
            response = dataset["response"]
            assert response.dims == ("trial", "voxel")
            assert response.dtype == ("float16" if dtype == "float16" else "float32")
            assert response.attrs["units"] == "SD"
            np.testing.assert_allclose(response, expected, rtol=0, atol=tolerance)
            rows = np.array([5, 90, 0, 41, 5])
            np.testing.assert_array_equal(TrialReader(path)[rows], response[rows])

    def test_every_column_is_a_coordinate(self, subject: Subject, path: Path) -> None:
        subject.write(path, format=format_of(path))
        with open_single_trials(path) as dataset:
            assert dataset.attrs["subject"] == 1
            for table in (subject.trials, subject.voxels):
                for column in table:
                    coordinate = dataset[column]
                    assert coordinate.dims == (table.index.name,)
                    assert column in dataset.coords
                    np.testing.assert_array_equal(coordinate.to_numpy(), table[column].to_numpy())
                    if table[column].dtype != object:
                        assert coordinate.dtype == table[column].dtype, column

    def test_it_is_plain_netcdf_and_zarr(
        self, subject: Subject, expected: np.ndarray, path: Path
    ) -> None:
        subject.write(path, format=format_of(path))
        if path.suffix == ".nc":
            with netCDF4.Dataset(path) as file:
                np.testing.assert_array_equal(file["response"][:], expected)
                assert file["response"].chunking() == "contiguous"
                assert file["nsd_id"][:].tolist() == subject.trials["nsd_id"].tolist()
        else:
            import zarr

            array = zarr.open_group(path, mode="r")["response"]
            assert (array.metadata.zarr_format, array.chunks[0], array.shards[0]) == (3, 1, 24)
            np.testing.assert_array_equal(array[:], expected)

    def test_labels_choose_trials_and_voxels(
        self, subject: Subject, expected: np.ndarray, path: Path
    ) -> None:
        subject.write(path, format=format_of(path))
        with open_single_trials(path) as dataset:
            test = dataset.isel(
                trial=np.flatnonzero(dataset["shared1000"] == "test"),
                voxel=np.flatnonzero(dataset["in_V1"]),
            )
            rows = subject.trials["is_shared"].to_numpy()
            columns = subject.voxels["in_V1"].to_numpy()
            np.testing.assert_array_equal(test["response"], expected[rows][:, columns])

    def test_percent_signal_change_as_int16_is_exact(
        self, official: SmallNSD, subject: Subject, path: Path
    ) -> None:
        sessions = ((session, values.T / np.float32(300)) for session, values in subject.sessions())
        step = INT16_STEP["none"]
        write_rows(
            path,
            checked_sessions(sessions, subject.trials),
            subject.trials,
            subject.voxels,
            dtype="int16",
            format=format_of(path),
            attributes={},
            step=step,
        )
        stored = np.concatenate([values.T for _, values in subject.sessions()])
        with open_single_trials(path) as dataset:
            np.testing.assert_array_equal(np.rint(dataset["response"] * 300), stored)
            np.testing.assert_allclose(
                dataset["response"], plain.responses(official, 1, "none"), rtol=3e-7
            )

    def test_averaged_images(self, official: SmallNSD, path: Path) -> None:
        subject = Subject.load(official, 5)
        images = image_table(subject.trials)
        blocks = averaged_images(
            subject.responses(), subject.trials, images, len(subject.voxels), path.parent
        )
        voxels = with_averaged_noise_ceiling(subject.voxels, images)
        write_rows(path, blocks, images, voxels, format=format_of(path), attributes={"subject": 5})
        responses = plain.responses(official, 5, "session")
        with open_single_trials(path) as dataset:
            assert dataset["response"].dims == ("image", "voxel")
            assert dataset["n_repetitions"].to_numpy().tolist() == images["n_repetitions"].tolist()
            for nsd_id, mean in zip(dataset["nsd_id"], dataset["response"], strict=True):
                own = responses[(subject.trials["nsd_id"] == int(nsd_id)).to_numpy()]
                np.testing.assert_allclose(mean, own.mean(axis=0), rtol=0, atol=1e-6)


class TestWholeOrNotAtAll:
    def test_the_same_inputs_give_the_same_bytes(self, subject: Subject, path: Path) -> None:
        subject.write(path, format=format_of(path))
        first = digest(path)
        other = subject.write(path.with_stem("other"), format=format_of(path))
        assert digest(other) == first
        subject.write(path, format=format_of(path))  # over what is there
        assert digest(path) == first
        assert sorted(path.parent.iterdir()) == sorted([path, other])

    @pytest.mark.parametrize("was_there", [False, True])
    def test_a_fault_half_way_leaves_what_was_there(
        self, subject: Subject, path: Path, was_there: bool
    ) -> None:
        def failing() -> Iterator[tuple[int, np.ndarray]]:
            for session, values in subject.responses():
                if session == 3:
                    raise OSError(errno.EIO, "The disk fails")
                yield session, values

        if was_there:
            subject.write(path, format=format_of(path), attributes={"subject": 99})
            before = digest(path)
        with pytest.raises(OSError, match="The disk fails"):
            write_rows(
                path,
                checked_sessions(failing(), subject.trials),
                subject.trials,
                subject.voxels,
                format=format_of(path),
                attributes={},
            )
        assert list(path.parent.iterdir()) == ([path] if was_there else [])
        assert not was_there or digest(path) == before

    def test_nothing_of_an_old_store_is_in_the_new_one(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        path = subject.write(tmp_path / "subj01.zarr", format="zarr")
        (path / "planted").mkdir()
        (path / "planted" / "zarr.json").write_text("{}")
        (path / "response" / "c" / "9").symlink_to("/etc")
        subject.write(path, format="zarr")
        assert not (path / "planted").exists()
        assert not (path / "response" / "c" / "9").exists()
        assert list(tmp_path.iterdir()) == [path]

    def test_a_store_with_planted_files_is_not_whole(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        path = subject.write(tmp_path / "subj01.zarr", format="zarr")
        folder = Folder(path=tmp_path)
        files = StepOutput.from_paths(folder, [path]).files
        (path / ".DS_Store").touch()
        assert folder.holds(files)
        for planted in (path / "planted", path / "response" / "c" / "link"):
            if planted.name == "link":
                planted.symlink_to("/etc")
            else:
                planted.touch()
            assert not folder.holds(files)
            planted.unlink()
        assert folder.holds(files)

    def test_a_disk_that_gives_back_something_else(
        self, subject: Subject, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nsd_prep.single_trials import writer

        name = {"netcdf": "netcdf_rows", "zarr": "zarr_rows"}[format_of(path)]
        real = getattr(writer, name)

        class Faulty:
            """Rows that are lost where they are written a second time."""

            def __init__(self, rows: object) -> None:
                self.rows = rows

            def __setitem__(self, place: slice, values: np.ndarray) -> None:
                self.rows[place] = values * (place.start == 0)

            def __getitem__(self, place: slice) -> np.ndarray:
                return self.rows[place]

        from contextlib import contextmanager

        @contextmanager
        def faulty(*arguments: object) -> Iterator[Faulty]:
            with real(*arguments) as rows:
                yield Faulty(rows)

        monkeypatch.setattr(writer, name, faulty)
        with pytest.raises(OutputError, match="different bytes in the rows 24"):
            subject.write(path, format=format_of(path))
        assert not path.exists()

    def test_a_folder_that_cannot_be_made(self, subject: Subject, path: Path) -> None:
        path.parent.joinpath("file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            subject.write(path.parent / "file" / path.name, format=format_of(path))


class TestWhatCannotBeWritten:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda pairs: pairs[:-1], "would hold 72 rows: expected 96"),
            (lambda pairs: [*pairs, pairs[0]], "Session 1 came where no other was expected"),
            (lambda pairs: pairs[::-1], "Session 4 came where session 1 was expected"),
            (lambda pairs: [(1, pairs[0][1][:-1])], "Session 1 has 23 trials: expected 24"),
            (lambda pairs: [(1, pairs[0][1][:, :-1])], r"block of the shape \(24, \d+\) came"),
            (lambda pairs: [(1, np.full_like(pairs[0][1], np.inf))], "values that are not finite"),
        ],
        ids=["missing", "twice", "order", "trials", "voxels", "not finite"],
    )
    def test_sessions_that_are_not_the_tables(
        self,
        subject: Subject,
        path: Path,
        change: Callable[[list[tuple[int, np.ndarray]]], list[tuple[int, np.ndarray]]],
        message: str,
    ) -> None:
        with pytest.raises(InputFileError, match=message):
            write_rows(
                path,
                checked_sessions(change(list(subject.responses())), subject.trials),
                subject.trials,
                subject.voxels,
                format=format_of(path),
                attributes={},
            )
        assert list(path.parent.iterdir()) == []

    def test_a_type_that_the_format_has_not(self, subject: Subject, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match='netCDF has no float16: choose dtype="int16"'):
            subject.write(tmp_path / "subj01.nc", dtype="float16")

    @pytest.mark.parametrize(("dtype", "value"), [("int16", 33), ("float16", 70_000)])
    def test_a_value_too_large(
        self, subject: Subject, tmp_path: Path, dtype: str, value: float
    ) -> None:
        def sessions() -> Iterator[tuple[int, np.ndarray]]:
            for session, values in subject.responses():
                values[3, 4] = value
                yield session, values

        with pytest.raises(OutputError, match=f"cannot hold the value {value} as {dtype}"):
            write_rows(
                tmp_path / "subj01.zarr",
                checked_sessions(sessions(), subject.trials),
                subject.trials,
                subject.voxels,
                dtype=dtype,
                format="zarr",
                attributes={},
            )

    def test_int16_holds_any_zscore_of_a_session(self) -> None:
        outlier = np.zeros(750)
        outlier[0] = 1
        largest = ((outlier - outlier.mean()) / outlier.std()).max()
        assert largest == pytest.approx(np.sqrt(749))
        assert largest < 32_767 * INT16_STEP["session"]


class TestWriteSubject:
    @pytest.mark.parametrize("number", [1, 5])
    @pytest.mark.parametrize("images", ["all", "shared", "unique"])
    @pytest.mark.parametrize("normalise", ["session", "none", "train-only"])
    @pytest.mark.parametrize("average", [False, True])
    def test_every_choice_against_a_loop(
        self,
        official: SmallNSD,
        tmp_path: Path,
        number: int,
        images: str,
        normalise: str,
        average: bool,
    ) -> None:
        subject = Subject.load(official, number)
        options = SingleTrialOptions(normalise=normalise, images=images, average=average)
        path, csv = write_single_trials_of_subject(
            tmp_path,
            number,
            subject.sessions(),
            subject.trials,
            subject.voxels,
            options,
            subject.space.attributes(),
        )
        rows = plain.trials(official, number)
        unique = {row["nsd_id"] for row in rows if not row["is_shared"]}
        expected = plain.responses(official, number, normalise, unique)
        wanted = {"all": (True, False), "shared": (True,), "unique": (False,)}[images]
        kept = [row for row in rows if row["is_shared"] in wanted]
        if average:
            nsd_ids = sorted({row["nsd_id"] for row in kept})
            sums = [
                sum(expected[row["trial"]] for row in kept if row["nsd_id"] == nsd_id)
                / np.float32(sum(row["nsd_id"] == nsd_id for row in kept))
                for nsd_id in nsd_ids
            ]
            expected = np.array(sums, dtype=np.float32)
        else:
            nsd_ids = [row["nsd_id"] for row in kept]
            expected = expected[[row["trial"] for row in kept]]
        with open_single_trials(path) as dataset:
            np.testing.assert_array_equal(dataset["response"], expected)
            assert dataset["nsd_id"].to_numpy().tolist() == nsd_ids
            assert dataset.attrs["normalisation"] == normalise
            assert dataset.attrs["averaged"] == average
            assert dataset.attrs["grid"].tolist() == list(subject.space.grid)
            assert ("noise_ceiling_averaged" in dataset.coords) == average
        assert pd.read_csv(csv)["nsd_id"].tolist() == nsd_ids
        assert sorted(tmp_path.iterdir()) == [csv, path]

    def test_zarr_without_its_libraries(
        self, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorstore", None)
        with pytest.raises(ParameterError, match="pip install zarr tensorstore, or choose format="):
            subject.write(tmp_path / "subj01.zarr", format="zarr")
        assert list(tmp_path.iterdir()) == []

    def test_of_a_store_that_is_there_another_format_is_no_choice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorstore", None)
        with pytest.raises(ParameterError, match=r"pip install zarr tensorstore\.$"):
            open_single_trials(tmp_path)


class TestReading:
    def test_batches_of_random_trials(
        self, subject: Subject, expected: np.ndarray, path: Path
    ) -> None:
        reader = TrialReader(subject.write(path, format=format_of(path)))
        assert (len(reader), reader.shape) == (96, expected.shape)
        rng = np.random.default_rng(1)
        for _ in range(5):
            rows = rng.integers(0, 96, size=40)
            np.testing.assert_array_equal(reader[rows], expected[rows])
            np.testing.assert_array_equal(reader[rows.tolist()], expected[rows])
        np.testing.assert_array_equal(reader[7], expected[7])
        np.testing.assert_array_equal(reader[-1], expected[-1])
        rows = subject.trials["is_shared"].to_numpy()
        np.testing.assert_array_equal(reader[rows], expected[rows])
        batch = reader[[2, 3]]
        batch[:] = 0  # the reader's user may change it
        np.testing.assert_array_equal(reader[[2, 3]], expected[[2, 3]])

    @pytest.mark.parametrize("rows", [96, [0, 96], -97])
    def test_rows_beyond_the_last(self, subject: Subject, path: Path, rows: int) -> None:
        reader = TrialReader(subject.write(path, format=format_of(path)))
        with pytest.raises(IndexError, match="has the rows 0 to 95"):
            reader[rows]

    def test_a_reader_goes_to_other_processes(
        self, subject: Subject, expected: np.ndarray, path: Path
    ) -> None:
        with TrialReader(subject.write(path, format=format_of(path))) as reader:
            reader[0]
            other = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(other[[4, 1]], expected[[4, 1]])

    def test_a_reader_in_forked_processes(
        self, subject: Subject, expected: np.ndarray, path: Path
    ) -> None:
        """As a DataLoader's workers on Linux: before and after the first process reads."""
        written = subject.write(path, format=format_of(path))
        words = [sys.executable, "-c", FORKING, str(written)]
        ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        first, second = ran.stdout.splitlines()
        assert first == str(expected[[4, 1]].tolist())
        if path.suffix == ".zarr":  # where TensorStore would end the process
            assert "does not work in a process forked from one that has used it: start" in second
        else:
            assert second == first

    def test_a_reader_of_a_relative_path_holds_its_file_in_another_folder(
        self,
        subject: Subject,
        expected: np.ndarray,
        path: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        written = subject.write(path, format=format_of(path))
        monkeypatch.chdir(written.parent)
        reader = TrialReader(written.name)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        for each in (reader, pickle.loads(pickle.dumps(reader))):
            np.testing.assert_array_equal(each[[4, 1]], expected[[4, 1]])

    @pytest.mark.parametrize(
        "rows",
        [
            slice(None),
            slice(3, 40, 7),
            slice(-5, None),
            slice(40, 3, -9),
            slice(200, 300),
            [],
            (),
            [-1, 0, -96],
            [[1, 2], [3, 4]],
            np.arange(96) % 5 == 0,
            [False] * 96,
            np.uint64(7),
            np.array([95, 3], dtype=np.uint8),
        ],
        ids=repr,
    )
    def test_rows_are_chosen_as_in_an_array(
        self, subject: Subject, expected: np.ndarray, path: Path, rows: object
    ) -> None:
        reader = TrialReader(subject.write(path, format=format_of(path)))
        chosen = reader[rows]
        np.testing.assert_array_equal(chosen, expected[rows])
        assert chosen.dtype == np.float32

    @pytest.mark.parametrize(
        "rows",
        [
            [False, False, True],
            np.ones(97, dtype=bool),
            np.ones((96, 2), dtype=bool),
            [0.0, 1.0],
            2.0,
            "response",
            ["1"],
            (1, 2),
            np.uint64(2**64 - 1),
        ],
        ids=repr,
    )
    def test_what_chooses_no_rows_is_refused(
        self, subject: Subject, path: Path, rows: object
    ) -> None:
        reader = TrialReader(subject.write(path, format=format_of(path)))
        with pytest.raises(IndexError, match=r"has the rows 0 to 95: .*; give integers, a slice"):
            reader[rows]

    @pytest.mark.parametrize("when", ["before the first batch", "later", "in another process"])
    @pytest.mark.parametrize("n_voxels", [-1, None])
    def test_rows_of_two_files_are_never_mixed(
        self, subject: Subject, path: Path, when: str, n_voxels: int | None
    ) -> None:
        """A run that adds regions replaces the file while a reader is open."""
        reader = TrialReader(subject.write(path, format=format_of(path)))
        if when == "later":
            reader[0]
        if when == "in another process":
            reader = pickle.loads(pickle.dumps(reader))
        blocks = (-values[:, :n_voxels] for _, values in subject.responses())
        voxels = subject.voxels[:n_voxels]
        write_rows(path, blocks, subject.trials, voxels, format=format_of(path), attributes={})
        for _ in range(2):
            with pytest.raises(InputFileError, match=r"written again, .* open it again"):
                reader[[1, 2]]
        np.testing.assert_array_equal(
            TrialReader(path)[3], -next(subject.responses())[1][3, :n_voxels]
        )

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_a_lazily_opened_dataset_never_gives_another_file_s_rows(
        self, subject: Subject, path: Path, elsewhere: bool
    ) -> None:
        with open_single_trials(subject.write(path, format=format_of(path))) as dataset:
            opened = dataset
            if elsewhere and path.suffix == ".zarr":  # as a worker of Dask gets it
                opened = pickle.loads(pickle.dumps(dataset))
            expected = opened["response"][3].values if not elsewhere else None
            blocks = (-values for _, values in subject.responses())
            labels = (subject.trials, subject.voxels)
            write_rows(path, blocks, *labels, format=format_of(path), attributes={})
            if path.suffix == ".zarr":
                for rows in ([1, 2], slice(3)):
                    with pytest.raises(InputFileError, match=r"written again, .* open it again"):
                        opened["response"][rows].load()
            elif not elsewhere:
                np.testing.assert_array_equal(opened["response"][3].values, expected)
                np.testing.assert_array_equal(
                    opened["response"][5].values, next(subject.responses())[1][5]
                )

    def test_a_file_that_is_changed_in_its_place(self, subject: Subject, tmp_path: Path) -> None:
        path = subject.write(tmp_path / "subj01.nc")
        reader = TrialReader(path)
        with netCDF4.Dataset(path, "a") as file:
            file["response"][5] = 0
        with pytest.raises(InputFileError, match="written again"):
            reader[4]

    def test_a_file_that_was_removed(self, subject: Subject, path: Path) -> None:
        reader = TrialReader(subject.write(path, format=format_of(path)))
        path.rename(path.with_name("elsewhere"))
        with pytest.raises(InputFileError, match="moved or removed"):
            reader[4]

    @pytest.mark.parametrize("opens", [open_single_trials, TrialReader])
    @pytest.mark.parametrize("shard", [0, 3])
    def test_a_store_that_is_not_whole_is_refused(
        self, subject: Subject, tmp_path: Path, opens: Callable[[Path], object], shard: int
    ) -> None:
        path = subject.write(tmp_path / "subj01.zarr", format="zarr")
        (path / "response" / "c" / str(shard) / "0").unlink()
        with pytest.raises(InputFileError, match=f"lacks 1 shard of .*, c/{shard}/0 first"):
            opens(path)

    def test_a_session_of_zeros_is_not_missing(self, subject: Subject, tmp_path: Path) -> None:
        path = tmp_path / "subj01.zarr"
        blocks = (values * (session != 2) for session, values in subject.responses())
        write_rows(path, blocks, subject.trials, subject.voxels, format="zarr", attributes={})
        assert not TrialReader(path)[24:48].any()

    def test_responses_are_read_where_they_are_asked_for(
        self, subject: Subject, path: Path
    ) -> None:
        subject.write(path, format=format_of(path))
        with open_single_trials(path) as dataset:
            assert not dataset["response"].variable._in_memory

    def test_a_file_that_is_not_there(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="No such file or store"):
            open_single_trials(path)

    def test_another_file(self, tmp_path: Path) -> None:
        xr.Dataset({"data": ("presentation", [1.0])}).to_netcdf(tmp_path / "other.nc")
        with pytest.raises(InputFileError, match="expected the variable response, found data"):
            open_single_trials(tmp_path / "other.nc")

    def test_a_file_rewritten_in_chunks(self, subject: Subject, tmp_path: Path) -> None:
        subject.write(tmp_path / "subj01.nc")
        with open_single_trials(tmp_path / "subj01.nc") as dataset:
            chunks = {"response": {"chunksizes": (8, 8)}}
            dataset.to_netcdf(tmp_path / "chunked.nc", encoding=chunks)
        with pytest.raises(InputFileError, match="was rewritten in chunks"):
            TrialReader(tmp_path / "chunked.nc")[0]


class TestMaps:
    @pytest.mark.parametrize("number", [1, 2, 5])
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_values_come_back_where_they_were(
        self, official: SmallNSD, tmp_path: Path, number: int, ending: str
    ) -> None:
        subject = Subject.load(official, number)
        space = read_volume(official.ncsnr_path(number)).space
        path = tmp_path / f"map{ending}"
        write_map(path, subject.voxels["ncsnr"], subject.voxels, space.grid, space.affine)
        image = nibabel.load(path)
        written = np.asarray(image.dataobj)
        assert written.shape == official.ncsnr[number].shape
        np.testing.assert_array_equal(image.affine, space.affine)
        np.testing.assert_allclose(space.affine, np.diag([1.8, 1.8, 1.8, 1]), rtol=1e-6)
        inside = np.zeros(written.shape, dtype=bool)
        for row in plain.voxels(official, number):
            inside[row["ijk"]] = True
        np.testing.assert_array_equal(written[inside], official.ncsnr[number][inside])
        assert np.isnan(written[~inside]).all()
        # And through the library's own reader, in the order of the betas.
        volume = read_volume(path).values
        place = tuple(subject.voxels[f"voxel_{axis}"] for axis in "xyz")
        np.testing.assert_array_equal(volume[place], subject.voxels["ncsnr"])

    def test_the_command_of_the_documents(self, subject: Subject, tmp_path: Path) -> None:
        subject.write(tmp_path / "subj01.nc", attributes=subject.space.attributes())
        np.save(tmp_path / "own.npy", np.arange(len(subject.voxels)))
        expected = {
            "ncsnr": subject.voxels["ncsnr"],
            "in_V1": subject.voxels["in_V1"],
            str(tmp_path / "own.npy"): np.arange(len(subject.voxels)),
        }
        place = tuple(subject.voxels[f"nifti_{axis}"] for axis in "ijk")
        for values, numbers in expected.items():
            target = tmp_path / "map.nii.gz"
            words = ["map", str(tmp_path / "subj01.nc"), str(target), "--values", values]
            assert main([*words, "--outside", "-1"]) == 0
            volume = np.asarray(nibabel.load(target).dataobj)
            np.testing.assert_array_equal(volume[place], np.asarray(numbers, np.float32))
            assert np.count_nonzero(volume == -1) >= volume.size - len(subject.voxels)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ("reliability", "expected one of .*ncsnr"),
            ("short.npy", "expected .* a value for each voxel"),
            ("text.npy", "cannot be read as an array"),
            ("complex.npy", "no array of real numbers"),
            ("missing.npy", "No such file"),
        ],
    )
    def test_wrong_values_of_the_command(
        self,
        subject: Subject,
        tmp_path: Path,
        values: str,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        subject.write(tmp_path / "subj01.nc", attributes=subject.space.attributes())
        np.save("short.npy", np.arange(3))
        np.save("complex.npy", np.zeros(len(subject.voxels), complex))
        Path("text.npy").write_text("some text")
        assert main(["map", "subj01.nc", "map.nii", "--values", values]) == 1
        assert re.search(said, capsys.readouterr().err)
        assert not Path("map.nii").exists()

    def test_the_same_values_give_the_same_bytes(self, subject: Subject, tmp_path: Path) -> None:
        for name in ("one", "two"):
            path = tmp_path / f"{name}.nii.gz"
            write_map(
                path, subject.voxels["ncsnr"], subject.voxels, subject.space.grid, np.eye(4), 0
            )
        assert digest(tmp_path / "one.nii.gz") == digest(tmp_path / "two.nii.gz")

    def test_too_few_values(self, subject: Subject) -> None:
        with pytest.raises(ParameterError, match=r"expected \(\d+,\), a value for each voxel"):
            brain_map([1.0], subject.voxels, subject.space.grid, np.eye(4))

    def test_another_subjects_grid(self, subject: Subject) -> None:
        values = np.zeros(len(subject.voxels))
        with pytest.raises(ParameterError, match="expected all within"):
            brain_map(values, subject.voxels, (2, 3, 4), np.eye(4))

    def test_another_ending(self, subject: Subject, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match=r"ends in \.nii\.gz or \.nii"):
            write_map(tmp_path / "map.mgz", [], subject.voxels[:0], subject.space.grid, np.eye(4))
