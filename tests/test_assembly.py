"""Assembly files as the consumer reads them: plain netCDF-4, its coordinates, same bytes."""

import errno
import hashlib
import itertools
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nsd_prep.assemblies.assembly import SubjectVoxels, build_assembly, stimulus_ids, voxel_table
from nsd_prep.assemblies.assembly_file import (
    AssemblyFile,
    assembly_in_columns,
    read_assembly,
    write_assembly,
)
from nsd_prep.core.errors import OutputError
from nsd_prep.dataset.space import VolumeSpace

NSD_IDS = np.array([0, 77, 3048, 72_999], dtype=np.int64)
LIBRARIES = re.escape(
    f"netCDF4 {netCDF4.__version__} (HDF5 {netCDF4.__hdf5libversion__}) and "
    f"h5py {h5py.__version__} (HDF5 {h5py.version.hdf5_version})"
)
ATTRIBUTES = {"dataset": "small", "k": 3, "fraction": 0.8, "subjects": "2 1"}


def subject_voxels(subject: int, grid: tuple[int, int, int], n_voxels: int) -> SubjectVoxels:
    """Return random voxels of a subject, the second of them without ncsnr."""
    rng = np.random.default_rng(subject)
    ncsnr = rng.uniform(0, 1.5, size=n_voxels).astype(np.float32)
    ncsnr[1] = np.nan
    return SubjectVoxels(
        subject=subject,
        space=VolumeSpace(grid, np.eye(4)),
        voxels=np.sort(rng.choice(np.prod(grid), size=n_voxels, replace=False)).astype(np.int64),
        ncsnr=ncsnr,
        noise_ceiling=np.where(np.isnan(ncsnr), 0, 100 * ncsnr.astype(float) ** 2 / 9),
        sessions_without_data=rng.integers(0, 3, size=n_voxels),
    )


@pytest.fixture
def subjects() -> list[SubjectVoxels]:
    return [subject_voxels(2, (5, 4, 6), 7), subject_voxels(1, (3, 7, 5), 5)]


@pytest.fixture
def voxels(subjects: list[SubjectVoxels]) -> pd.DataFrame:
    return voxel_table("V1", subjects)


@pytest.fixture
def responses() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(4, 12)).astype(np.float32)


@pytest.fixture
def assembly(responses: np.ndarray, voxels: pd.DataFrame) -> xr.DataArray:
    return build_assembly(responses, NSD_IDS, voxels, ATTRIBUTES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "Allen2022.V1.nc"


class TestVoxelTable:
    def test_neuroids_are_numbered_within_each_subject_in_the_order_given(
        self, voxels: pd.DataFrame
    ) -> None:
        expected = [f"subj02_V1_v{n:04d}" for n in range(7)]
        expected += [f"subj01_V1_v{n:04d}" for n in range(5)]
        assert voxels["neuroid_id"].tolist() == expected
        assert voxels["subject"].tolist() == ["subj02"] * 7 + ["subj01"] * 5
        assert set(voxels["region"]) == {"V1"}

    def test_more_than_9999_neuroids_take_a_fifth_digit(self) -> None:
        n_voxels = 10_001
        item = SubjectVoxels(
            7,
            VolumeSpace((30, 31, 32), np.eye(4)),
            np.arange(n_voxels),
            np.zeros(n_voxels, np.float32),
            np.zeros(n_voxels),
            np.zeros(n_voxels, np.int64),
        )
        ids = voxel_table("IT", [item])["neuroid_id"]
        assert ids.iloc[[0, 9999, 10_000]].tolist() == [
            "subj07_IT_v0000",
            "subj07_IT_v9999",
            "subj07_IT_v10000",
        ]

    def test_voxel_x_is_nifti_k_and_voxel_z_is_nifti_i(
        self, subjects: list[SubjectVoxels], voxels: pd.DataFrame
    ) -> None:
        n_z, n_y, n_x = subjects[0].space.shape
        nifti = np.zeros((n_x, n_y, n_z), dtype=int)
        for order, (i, j, k) in enumerate(
            voxels.loc[:6, ["nifti_i", "nifti_j", "nifti_k"]].to_numpy().tolist(), start=1
        ):
            nifti[i, j, k] = order
        reversed_volume = nifti.transpose(2, 1, 0)
        assert reversed_volume.ravel()[subjects[0].voxels].tolist() == [1, 2, 3, 4, 5, 6, 7]
        for order, (x, y, z) in enumerate(
            voxels.loc[:6, ["voxel_x", "voxel_y", "voxel_z"]].to_numpy().tolist(), start=1
        ):
            assert reversed_volume[x, y, z] == order

    def test_voxels_stand_in_the_order_of_voxel_x_y_z(self, voxels: pd.DataFrame) -> None:
        for _, of_subject in voxels.groupby("subject"):
            places = of_subject[["voxel_x", "voxel_y", "voxel_z"]].to_numpy().tolist()
            assert places == sorted(places)

    def test_what_is_known_of_each_voxel(self, subjects, voxels: pd.DataFrame) -> None:
        for column in ("ncsnr", "noise_ceiling", "sessions_without_data"):
            known = np.concatenate([getattr(item, column) for item in subjects])
            assert np.array_equal(voxels[column].to_numpy(), known, equal_nan=column == "ncsnr")

    def test_some_of_the_voxels(self, subjects: list[SubjectVoxels]) -> None:
        keep = np.array([True, False, True, True, False, False, True])
        table = voxel_table("V1", [replace(subjects[0], kept=keep)])
        assert table["kept"].tolist() == keep.tolist()
        numbered = ["v0000", "", "v0001", "v0002", "", "", "v0003"]
        assert [name[-5:] for name in table["neuroid_id"]] == numbered
        columns = ["voxel_x", "ncsnr", "noise_ceiling"]
        whole = voxel_table("V1", [subjects[0]])
        pd.testing.assert_frame_equal(table[columns], whole[columns])

    def test_stimulus_ids_have_five_digits_and_count_from_0(self) -> None:
        assert stimulus_ids(NSD_IDS) == ["nsd_00000", "nsd_00077", "nsd_03048", "nsd_72999"]


class TestDescriptions:
    def test_quantities_have_units_and_everything_a_long_name(
        self, assembly: xr.DataArray, path: Path
    ) -> None:
        write_assembly(assembly, path)
        read = xr.load_dataarray(path)
        units = {name: read[name].attrs.get("units") for name in read.coords}
        assert units == {
            "stimulus_id": None,
            "nsd_id": None,
            "neuroid_id": None,
            "subject": None,
            "region": None,
            "nc_testset": "percent",
            "voxel_x": "1",
            "voxel_y": "1",
            "voxel_z": "1",
        }
        assert read.attrs["units"] == "1"
        assert all(values.attrs["long_name"] for values in (read, *read.coords.values()))
        assert {name: read.attrs[name] for name in ATTRIBUTES} == ATTRIBUTES

    def test_axes_are_those_of_the_beta_files(self, assembly: xr.DataArray) -> None:
        # voxel_x is the first axis of the beta files, and NIfTI's k (TestVoxelTable).
        assert assembly["voxel_x"].attrs["long_name"].endswith("axis 0 (NIfTI k)")
        assert assembly["voxel_z"].attrs["long_name"].endswith("axis 2 (NIfTI i)")


class TestFile:
    def test_the_bytes_are_those_that_xarray_writes(
        self, assembly: xr.DataArray, path: Path, tmp_path: Path
    ) -> None:
        without = {name: {"_FillValue": None} for name in ("data", *assembly.coords)}
        for storage in ({}, {"zlib": True, "complevel": 4, "chunksizes": (2, 5)}):
            write_assembly(assembly, path, storage)
            encoding = without | {"data": {"_FillValue": None, **storage}}
            assembly.to_netcdf(tmp_path / "xarray.nc", engine="netcdf4", encoding=encoding)
            assert path.read_bytes() == (tmp_path / "xarray.nc").read_bytes()

    def test_neuroids_written_in_any_order_and_number_give_the_same_bytes(
        self, assembly: xr.DataArray, path: Path, tmp_path: Path
    ) -> None:
        write_assembly(assembly, tmp_path / "whole.nc")
        form = assembly.copy(data=np.broadcast_to(np.float32(0), assembly.shape))
        for edges in ((0, 5, 12), (0, 1, 4, 6, 12)):
            with assembly_in_columns(form, path) as file:
                for start, stop in list(itertools.pairwise(edges))[::-1]:
                    file.write(start, assembly.to_numpy()[:, start:stop])
            assert path.read_bytes() == (tmp_path / "whole.nc").read_bytes()

    @pytest.mark.parametrize("written", [[(0, 5)], [(5, 12)], [(0, 7), (6, 12)], []])
    def test_neuroids_that_are_missing_or_written_twice(
        self, assembly: xr.DataArray, path: Path, written: list[tuple[int, int]]
    ) -> None:
        write_assembly(assembly, path)
        before = path.read_bytes()

        def write() -> None:
            with assembly_in_columns(assembly, path) as file:
                for start, stop in written:
                    file.write(start, assembly.to_numpy()[:, start:stop])

        with pytest.raises(ValueError, match="expected the values of neuroids 0 to 11, each once"):
            write()
        assert path.read_bytes() == before
        assert [item.name for item in path.parent.iterdir()] == [path.name]

    def test_a_plain_netcdf4_reader_finds_the_consumers_form(
        self, assembly: xr.DataArray, path: Path, responses: np.ndarray, voxels: pd.DataFrame
    ) -> None:
        write_assembly(assembly, path)
        with netCDF4.Dataset(path) as file:
            assert file.data_model == "NETCDF4"
            assert not file.groups
            assert {name: len(item) for name, item in file.dimensions.items()} == {
                "presentation": 4,
                "neuroid": 12,
            }
            expected = {
                "stimulus_id": ("presentation", str),
                "nsd_id": ("presentation", np.int64),
                "neuroid_id": ("neuroid", str),
                "subject": ("neuroid", str),
                "region": ("neuroid", str),
                "nc_testset": ("neuroid", np.float64),
                "voxel_x": ("neuroid", np.int64),
                "voxel_y": ("neuroid", np.int64),
                "voxel_z": ("neuroid", np.int64),
            }
            of_two_dimensions = [
                name for name, item in file.variables.items() if len(item.dimensions) > 1
            ]
            assert len(of_two_dimensions) == 1, "one data variable"
            data = file.variables[of_two_dimensions[0]]
            assert data.dimensions == ("presentation", "neuroid")
            assert data.dtype == np.float32
            assert np.array_equal(np.asarray(data[:]), responses)
            coordinates = [name for name in file.variables if name != data.name]
            assert coordinates == list(expected), "the order of the coordinates"
            for name, (dimension, dtype) in expected.items():
                assert file.variables[name].dimensions == (dimension,)
                assert file.variables[name].dtype == dtype, name
            assert not set(file.variables) & set(file.dimensions), "no index variables"
            assert file["stimulus_id"][:].tolist() == stimulus_ids(NSD_IDS)
            assert file["nsd_id"][:].tolist() == NSD_IDS.tolist()
            assert all(type(item) is str for item in file["subject"][:])
            assert file["neuroid_id"][:].tolist() == voxels["neuroid_id"].tolist()
            assert file["nc_testset"][:].tolist() == voxels["noise_ceiling"].tolist()
            assert file["voxel_x"][:].tolist() == voxels["nifti_k"].tolist()
            assert file["voxel_z"][:].tolist() == voxels["nifti_i"].tolist()
            for name, value in ATTRIBUTES.items():
                assert data.getncattr(name) == value
            assert not any("_FillValue" in item.ncattrs() for item in file.variables.values())

    def test_xarray_reads_an_array_without_indexes(
        self, assembly: xr.DataArray, path: Path
    ) -> None:
        write_assembly(assembly, path)
        read = xr.load_dataarray(path)
        assert list(read.coords) == list(assembly.coords)
        assert not read.indexes
        assert all(isinstance(item, str) for item in read["stimulus_id"].to_numpy())
        xr.testing.assert_identical(read, assembly)
        xr.testing.assert_identical(read_assembly(path), assembly)

    def test_the_same_assembly_gives_the_same_bytes_in_any_folder_and_second(
        self, responses: np.ndarray, voxels: pd.DataFrame, tmp_path: Path
    ) -> None:
        digests = set()
        for folder in ("one", "another/deeper"):
            path = tmp_path / folder / "Allen2022.V1.nc"
            write_assembly(build_assembly(responses, NSD_IDS, voxels, ATTRIBUTES), path)
            digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
            time.sleep(1.05)  # HDF5 counts times in seconds
        assert len(digests) == 1

    def test_other_data_give_other_bytes(self, assembly: xr.DataArray, path: Path) -> None:
        write_assembly(assembly, path)
        before = path.read_bytes()
        changed = assembly.copy(deep=True)
        changed[2, 3] = 9
        write_assembly(changed, path)
        assert path.read_bytes() != before

    @pytest.mark.parametrize(
        ("error", "is_full", "words"),
        [
            (OSError(errno.ENOSPC, "No space left"), False, "the disk is full"),
            # What netCDF makes of a full disk, with little and with much to write.
            (RuntimeError("NetCDF: HDF error"), True, "the disk is full"),
            (PermissionError(errno.EACCES, "Permission denied"), True, "the disk is full"),
            # What it says where the libraries of HDF5 in h5py and in netCDF4 do not fit together.
            (RuntimeError("NetCDF: HDF error"), False, f"NetCDF: HDF error.*{LIBRARIES}"),
        ],
    )
    def test_the_disk_is_named_where_it_fails_and_the_libraries_where_it_does_not(
        self,
        assembly: xr.DataArray,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        is_full: bool,
        words: str,
    ) -> None:
        write_assembly(assembly, path)
        before = path.read_bytes()

        def failing(partial: Path, mode: str, **__: object) -> None:
            assert mode == "w"
            partial.write_bytes(before[:200])
            if is_full:
                monkeypatch.setattr(os, "fsync", full)
            raise error

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(netCDF4, "Dataset", failing)
        with pytest.raises(OutputError, match=words) as raised:
            write_assembly(assembly, path)
        assert str(raised.value).startswith(f"{path} cannot be written: ")
        assert "run the same command again" in str(raised.value)
        assert path.read_bytes() == before
        assert [item.name for item in path.parent.iterdir()] == [path.name]

    @pytest.mark.parametrize(
        "alter",
        [
            lambda it: it.where(it != it[-1, -1], 0).astype(it.dtype),
            lambda it: it.assign_coords(nsd_id=it["nsd_id"] + 1),
            lambda it: it.assign_coords(voxel_x=it["voxel_x"] + 1),
            lambda it: it.assign_attrs(region="V9"),
            lambda it: it.astype(np.float64),
            lambda it: it[:-1],
            lambda it: it[:, 1:],
            lambda it: it.rename("other"),
        ],
    )
    def test_a_disk_that_gives_back_something_else(
        self,
        assembly: xr.DataArray,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        alter: Callable[[xr.DataArray], xr.DataArray],
    ) -> None:
        monkeypatch.setattr(
            "nsd_prep.assemblies.assembly_file._BYTES_AT_ONCE", 2 * assembly[:1].nbytes
        )
        original = AssemblyFile.close

        def altered(it: AssemblyFile) -> None:
            original(it)
            for partial in path.parent.glob(".*.partial"):
                alter(assembly).to_netcdf(partial, engine="netcdf4")

        monkeypatch.setattr(AssemblyFile, "close", altered)
        with pytest.raises(OutputError, match="reading it back gives different bytes"):
            write_assembly(assembly, path)
        assert list(path.parent.iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, assembly: xr.DataArray, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=r"file.*choose another folder"):
            write_assembly(assembly, tmp_path / "file" / "Allen2022.V1.nc")
