"""Stimulus sets hold the dataset's own pixels, and say clearly when they cannot be made."""

import hashlib
import os
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from brainscore_inputs import write_stimuli
from numpy.typing import NDArray
from PIL import Image

from nsd_prep.assemblies import stimulus_sets
from nsd_prep.assemblies.stimulus_sets import write_picture, write_stimulus_sets
from nsd_prep.core.errors import InputFileError, MissingFilesError, OutputError
from nsd_prep.dataset.images import check_images_file, opened_images, read_images

IDS = np.array([3, 7, 11, 40, 41, 90], dtype=np.int64)
IS_TRAIN = np.array([True, False, True, True, False, True])


@pytest.fixture
def stimuli(tmp_path: Path) -> tuple[Path, NDArray[np.uint8]]:
    path = tmp_path / "nsd_stimuli.hdf5"
    return path, write_stimuli(path, n_images=100)


class TestImages:
    def test_pixels_are_those_of_the_0_based_id(
        self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path
    ) -> None:
        path, pictures = stimuli
        write_stimulus_sets(path, tmp_path / "out", IDS, IS_TRAIN)
        for nsd_id, in_train in zip(IDS, IS_TRAIN, strict=True):
            folder = tmp_path / "out" / ("stimuli_train" if in_train else "stimuli_test")
            with Image.open(folder / f"nsd_{nsd_id:05d}.png") as image:
                assert image.mode == "RGB"
                np.testing.assert_array_equal(np.asarray(image), pictures[nsd_id])

    def test_folders_hold_the_images_of_the_split_and_nothing_else(
        self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path
    ) -> None:
        write_stimulus_sets(stimuli[0], tmp_path / "out", IDS, IS_TRAIN)
        found = {
            split: sorted(path.name for path in (tmp_path / "out" / f"stimuli_{split}").iterdir())
            for split in ("train", "test")
        }
        assert found == {
            "train": ["nsd_00003.png", "nsd_00011.png", "nsd_00040.png", "nsd_00090.png"],
            "test": ["nsd_00007.png", "nsd_00041.png"],
        }

    def test_jpeg_is_close_to_the_pixels(self, tmp_path: Path) -> None:
        row, column = np.mgrid[:40, :50]
        smooth = np.stack([row * 5, column * 4, row + column], axis=-1).astype(np.uint8)
        with h5py.File(tmp_path / "smooth.hdf5", "w") as file:
            file["imgBrick"] = smooth[np.newaxis]
        tables = write_stimulus_sets(
            tmp_path / "smooth.hdf5",
            tmp_path,
            np.array([0]),
            np.array([True]),
            image_format="jpeg",
        )
        with Image.open(tmp_path / "stimuli_train" / "nsd_00000.jpg") as image:
            assert image.format == "JPEG"
            assert np.abs(np.asarray(image).astype(int) - smooth).max() <= 8
        assert pd.read_csv(tables[0])["image_file_name"].tolist() == ["nsd_00000.jpg"]

    def test_only_the_images_needed_are_read_in_file_order(
        self, stimuli: tuple[Path, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        get = h5py.Dataset.__getitem__

        def recorded(self: h5py.Dataset, key: int) -> NDArray[np.uint8]:
            asked.append(key)
            return get(self, key)

        monkeypatch.setattr(h5py.Dataset, "__getitem__", recorded)
        ids = np.array([90, 3, 41])
        assert [one.nsd_id for one in read_images(stimuli[0], ids)] == [3, 41, 90]
        assert asked == [3, 41, 90]

    def test_images_behind_a_link_to_another_file_are_refused(
        self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path
    ) -> None:
        # Nobody would see that the other file was changed.
        with h5py.File(tmp_path / "linked.hdf5", "w") as file:
            file["imgBrick"] = h5py.ExternalLink(str(stimuli[0]), "imgBrick")
        with pytest.raises(InputFileError, match=f"no images of its own.* {stimuli[0]}"):
            list(read_images(tmp_path / "linked.hdf5", np.array([3])))

    def test_same_pixels_same_bytes(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        digests = set()
        for name in ("a.png", "deeper/b.png"):
            write_picture(pixels, tmp_path / name)
            digests.add(hashlib.sha1((tmp_path / name).read_bytes()).hexdigest())
        assert len(digests) == 1

    def test_png_holds_nothing_but_the_picture(self, tmp_path: Path) -> None:
        write_picture(np.zeros((4, 5, 3), dtype=np.uint8), tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        chunks, position = [], 8
        while position < len(content):
            size = int.from_bytes(content[position : position + 4], "big")
            chunks.append(content[position + 4 : position + 8].decode())
            position += 12 + size
        assert set(chunks) == {"IHDR", "IDAT", "IEND"}


class TestSource:
    def content(self, folder: Path) -> dict[str, bytes]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    def test_images_may_come_from_anywhere(
        self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path
    ) -> None:
        path, pictures = stimuli
        asked = []

        def source(nsd_id: int) -> NDArray[np.uint8]:
            asked.append((nsd_id, threading.get_ident()))
            return pictures[nsd_id]

        write_stimulus_sets(path, tmp_path / "file", IDS, IS_TRAIN)
        write_stimulus_sets(source, tmp_path / "source", IDS, IS_TRAIN)
        assert self.content(tmp_path / "source") == self.content(tmp_path / "file")
        assert asked == [(int(nsd_id), threading.get_ident()) for nsd_id in IDS]

    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
        ],
    )
    def test_what_is_no_image_is_refused(self, tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
        with pytest.raises(InputFileError, match=r"image of nsd_id 3 .*expected uint8"):
            write_stimulus_sets(lambda _: pixels, tmp_path, IDS, IS_TRAIN)

    @pytest.mark.parametrize("threads", [1, 2, 7])
    def test_bytes_do_not_depend_on_the_number_of_threads(
        self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path, threads: int
    ) -> None:
        write_stimulus_sets(stimuli[0], tmp_path / "default", IDS, IS_TRAIN)
        write_stimulus_sets(stimuli[0], tmp_path / "threads", IDS, IS_TRAIN, threads=threads)
        assert self.content(tmp_path / "threads") == self.content(tmp_path / "default")

    def test_a_failure_of_the_source_ends_the_writing(self, tmp_path: Path) -> None:
        def source(nsd_id: int) -> NDArray[np.uint8]:
            if nsd_id > 10:
                raise ConnectionError("gone")
            return np.zeros((4, 5, 3), np.uint8)

        with pytest.raises(ConnectionError, match="gone"):
            write_stimulus_sets(source, tmp_path, IDS, IS_TRAIN)
        assert not list(tmp_path.glob("*.csv"))

    def test_few_images_are_held_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held, most = 0, 0
        lock = threading.Lock()

        def source(_: int) -> NDArray[np.uint8]:
            nonlocal held, most
            with lock:
                held += 1
                most = max(most, held)
            return np.zeros((4, 5, 3), np.uint8)

        def write(*_: object) -> None:
            nonlocal held
            time.sleep(0.002)
            with lock:
                held -= 1

        monkeypatch.setattr(stimulus_sets, "write_picture", write)
        ids = np.arange(60)
        write_stimulus_sets(source, tmp_path, ids, ids % 5 > 0, threads=2)
        assert most <= 5


class TestTables:
    def test_columns_and_rows(
        self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path
    ) -> None:
        train, test = write_stimulus_sets(stimuli[0], tmp_path, IDS, IS_TRAIN)
        assert train == tmp_path / "stimulus_metadata_train.csv"
        assert train.read_text().splitlines() == [
            "stimulus_id,nsd_id,image_file_name",
            "nsd_00003,3,nsd_00003.png",
            "nsd_00011,11,nsd_00011.png",
            "nsd_00040,40,nsd_00040.png",
            "nsd_00090,90,nsd_00090.png",
        ]
        assert pd.read_csv(test)["nsd_id"].tolist() == [7, 41]

    def test_suffix_comes_before_the_extension(
        self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path
    ) -> None:
        train, test = write_stimulus_sets(stimuli[0], tmp_path, IDS, IS_TRAIN, suffix="_8subj")
        assert (train.name, test.name) == (
            "stimulus_metadata_train_8subj.csv",
            "stimulus_metadata_test_8subj.csv",
        )
        assert (tmp_path / "stimuli_train").is_dir()


class TestUnusableFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError, match=r"nsd_stimuli\.hdf5 is missing, so there are"):
            write_stimulus_sets(tmp_path / "nsd_stimuli.hdf5", tmp_path, IDS, IS_TRAIN)

    def test_short(self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path) -> None:
        ids = np.array([3, 100])
        with pytest.raises(
            InputFileError, match=r"too short.*expected images up to nsd_id 100 .*found 100 images"
        ):
            write_stimulus_sets(stimuli[0], tmp_path / "out", ids, np.array([True, False]))
        assert not (tmp_path / "out").exists()

    def test_truncated(self, stimuli: tuple[Path, NDArray[np.uint8]], tmp_path: Path) -> None:
        path = tmp_path / "cut.hdf5"
        path.write_bytes(stimuli[0].read_bytes()[:-2000])
        with pytest.raises(InputFileError, match="truncated, empty or not HDF5"):
            list(read_images(path, IDS))

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("other", np.zeros((100, 4, 4, 3), np.uint8)),
            ("imgBrick", np.zeros((100, 4, 4, 3), np.int16)),
            ("imgBrick", np.zeros((100, 4, 4), np.uint8)),
            ("imgBrick", np.zeros((100, 3, 4, 4), np.uint8)),
            ("imgBrick", np.zeros((100, 0, 4, 3), np.uint8)),
            ("imgBrick", np.zeros((100, 4, 0, 3), np.uint8)),
        ],
    )
    def test_something_else(self, tmp_path: Path, name: str, values: NDArray[np.uint8]) -> None:
        with h5py.File(tmp_path / "other.hdf5", "w") as file:
            file[name] = values
        for look in (check_images_file, lambda path: list(read_images(path, IDS))):
            with pytest.raises(InputFileError, match=r"imgBrick.*so there are no stimulus sets"):
                look(tmp_path / "other.hdf5")

    def test_a_folder_or_a_pipe_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        for name in ("folder", "pipe"):
            with pytest.raises(InputFileError, match="is not a regular file, so there are no"):
                check_images_file(tmp_path / name)
            with pytest.raises(InputFileError, match="is not a regular file"):
                write_stimulus_sets(tmp_path / name, tmp_path / "out", IDS, IS_TRAIN)

    def test_a_fault_elsewhere_is_not_the_file_s(self, stimuli: tuple[Path, np.ndarray]) -> None:
        """Such as a full disk, while images are read and written."""

        def read(fault: OSError) -> None:
            with opened_images(stimuli[0], IDS) as images:
                images.read(0)
                raise fault

        for fault in (OutputError("the disk is full"), OSError("elsewhere")):
            with pytest.raises(type(fault), match=str(fault)):
                read(fault)

    def test_images_that_lie_in_other_files(self, tmp_path: Path) -> None:
        path, shape = tmp_path / "nsd_stimuli.hdf5", (100, 4, 4, 3)
        layout = h5py.VirtualLayout(shape, np.uint8)
        layout[...] = h5py.VirtualSource("gone.hdf5", "imgBrick", shape)
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("imgBrick", layout)
        with pytest.raises(InputFileError, match="no images of its own, so there are no"):
            check_images_file(path)

    def test_a_look_reads_no_image(
        self, stimuli: tuple[Path, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(h5py.Dataset, "__getitem__")
        check_images_file(stimuli[0])
        check_images_file(stimuli[0], IDS)
        with pytest.raises(InputFileError, match="too short"):
            check_images_file(stimuli[0], np.array([100]))
        with pytest.raises(MissingFilesError):
            check_images_file(stimuli[0].with_name("absent.hdf5"))
