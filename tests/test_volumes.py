"""NIfTI volumes: their axes fully reversed, their content judged."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from small_nsd import write_volume

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.volumes import read_label_volume, read_ncsnr, read_volume


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "volume.nii.gz"


def test_all_axes_are_reversed(path: Path) -> None:
    nifti = np.random.default_rng(1).integers(-1, 8, size=(3, 5, 4)).astype(np.float64)
    write_volume(path, nifti)
    labels = read_label_volume(path).values
    assert labels.shape == (4, 5, 3)
    for i in range(3):
        for j in range(5):
            for k in range(4):
                assert labels[k, j, i] == nifti[i, j, k]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.int32, np.uint8])
def test_labels_of_any_type_on_disk(path: Path, dtype: type) -> None:
    nifti = np.arange(24).reshape(2, 3, 4).astype(dtype)
    write_volume(path, nifti)
    labels = read_label_volume(path).values
    assert labels.dtype == np.int16
    assert np.array_equal(labels.T, nifti)


@pytest.mark.parametrize("wrong", [np.nan, 0.5, -2.0, 40_000.0, 65_537.0, np.inf])
def test_values_that_are_not_labels(path: Path, wrong: float) -> None:
    nifti = np.ones((2, 3, 4))
    nifti[1, 2, 3] = wrong
    write_volume(path, nifti)
    with pytest.raises(InputFileError) as raised:
        read_label_volume(path)
    message = str(raised.value)
    assert str(path) in message
    assert f"expected whole numbers from -1 up, found {wrong:g}" in message


def test_ncsnr_keeps_nan_and_exact_zero(path: Path) -> None:
    nifti = np.random.default_rng(2).uniform(0.1, 2, size=(2, 3, 4)).astype(np.float32)
    nifti[0, 1, 2] = np.nan
    nifti[1, 0, 3] = 0
    write_volume(path, nifti)
    ncsnr = read_ncsnr(path).values
    assert ncsnr.dtype == np.float32
    assert np.array_equal(ncsnr.transpose(2, 1, 0), nifti, equal_nan=True)
    assert np.isnan(ncsnr[2, 1, 0])
    assert ncsnr[3, 0, 1] == 0


@pytest.mark.parametrize("wrong", [-0.25, np.inf, -np.inf, 1e30])
def test_values_that_cannot_be_ncsnr(path: Path, wrong: float) -> None:
    nifti = np.full((2, 3, 4), 0.5, dtype=np.float32)
    nifti[0, 0, 1] = wrong
    write_volume(path, nifti)
    with pytest.raises(
        InputFileError, match=f"NaN or values from 0 to 100, found {re.escape(f'{wrong:g}')}"
    ):
        read_ncsnr(path)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 2)])
def test_another_number_of_dimensions(path: Path, shape: tuple[int, ...]) -> None:
    write_volume(path, np.ones(shape))
    with pytest.raises(InputFileError, match=r"expected three dimensions \(X, Y, Z\)"):
        read_volume(path)


@pytest.mark.parametrize("kept", [0.0, 0.05, 0.3, 0.6, 0.95])
def test_a_truncated_or_empty_file(path: Path, kept: float) -> None:
    write_volume(path, np.random.default_rng(3).normal(size=(8, 9, 10)))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputFileError) as raised:
        read_volume(path)
    assert str(path) in str(raised.value)
    assert "download it again" in str(raised.value)


@pytest.mark.parametrize("name", ["volume.nii.gz", "volume.nii", "volume.txt"])
def test_a_file_of_another_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<html>404</html>" * 100)
    with pytest.raises(InputFileError, match="cannot be read as a NIfTI volume"):
        read_volume(tmp_path / name)


def test_a_damaged_header(tmp_path: Path) -> None:
    path = tmp_path / "volume.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4)), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[70:72] = b"\x77\x77"  # the type of the values
    path.write_bytes(content)
    with pytest.raises(InputFileError, match="cannot be read as a NIfTI volume"):
        read_volume(path)


def test_a_missing_file_is_an_error_of_the_disk(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ncsnr(path)
