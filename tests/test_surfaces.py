"""Files of surfaces, written plainly byte by byte, and the space of a pair of surfaces."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_surfaces import mgh, write_mgh

from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.dataset.betas import check_session_file
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.space import SurfaceSpace, VolumeSpace, space_from_attributes
from nsd_prep.dataset.surfaces import (
    read_vertex_index,
    read_vertex_labels,
    read_vertex_ncsnr,
    read_vertices,
)
from nsd_prep.sources.folder import FolderSource

SPACE = SurfaceSpace((7, 5))


class TestSpace:
    def test_sites_are_the_left_hemisphere_and_then_the_right(self) -> None:
        assert SPACE.shape == (12,)
        assert SPACE.n_sites == 12
        assert (SPACE.hemisphere_sites("lh"), SPACE.hemisphere_sites("rh")) == ((0, 7), (7, 12))
        table = SPACE.table(np.array([0, 6, 7, 11]))
        assert tuple(table) == SPACE.columns == SPACE.coordinates
        assert table["hemisphere"].tolist() == ["lh", "lh", "rh", "rh"]
        assert table["vertex_index"].tolist() == [0, 6, 0, 4]
        assert table["vertex_index"].dtype == np.int64

    def test_rows_of_a_table_are_sites_again_in_any_order(self) -> None:
        table = pd.DataFrame(SPACE.table(np.arange(12))).sample(frac=1, random_state=1)
        assert np.array_equal(SPACE.sites(table), table.index)
        assert SPACE.sites(table[:0]).tolist() == []

    @pytest.mark.parametrize("place", [("rh", 5), ("lh", 7), ("lh", -1)])
    def test_a_vertex_outside_of_its_hemisphere_is_refused(self, place: tuple[str, int]) -> None:
        with pytest.raises(ParameterError, match=f"vertex {place[1]} of {place[0]} lies outside"):
            SPACE.sites({"hemisphere": [place[0]], "vertex_index": [place[1]]})
        with pytest.raises(ParameterError, match="'left' is unknown"):
            SPACE.sites({"hemisphere": ["left"], "vertex_index": [0]})

    def test_no_mesh_no_neighbours(self) -> None:
        assert SPACE.neighbours(np.array([3]), 2).tolist() == []

    def test_spaces_differ_in_name_and_in_each_hemisphere(self) -> None:
        assert SPACE.difference(SurfaceSpace((7, 5))) == ""
        assert "7 and 5 vertices of fsaverage" in SPACE.difference(SurfaceSpace((5, 7)))
        assert SPACE.difference(SurfaceSpace((7, 5), "nativesurface"))

    def test_attributes_tell_the_space(self) -> None:
        assert SPACE.attributes() == {"space": "fsaverage", "vertices": [7, 5]}
        assert space_from_attributes({"space": "fsaverage", "vertices": np.array([7, 5])}) == SPACE
        for name in ("func1pt8mm", "func1mm"):
            volume = VolumeSpace((2, 3, 4), np.eye(4), name)
            assert space_from_attributes(volume.attributes()) == volume
        assert pickle.loads(pickle.dumps(SPACE)) == SPACE


class TestFiles:
    @pytest.mark.parametrize("name", ["lh.ncsnr.mgh", "lh.ncsnr.mgz"])
    def test_values_of_vertices(self, tmp_path: Path, name: str) -> None:
        values = np.array([0.5, np.nan, 0, 3.25], np.float32)
        read = read_vertex_ncsnr(write_mgh(tmp_path / name, values))
        assert read.dtype == np.float32
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, values)

    def test_coordinates_of_vertices(self, tmp_path: Path) -> None:
        values = np.arange(12, dtype=np.float32).reshape(4, 3)
        path = write_mgh(tmp_path / "lh.func1pt8-to-white.mgz", values)
        assert np.array_equal(read_vertices(path), values)
        with pytest.raises(InputFileError, match="has 3 values for each vertex"):
            read_vertex_labels(path)

    def test_labels(self, tmp_path: Path) -> None:
        path = write_mgh(tmp_path / "lh.streams.mgz", np.array([0, 5, 1, 180]))
        assert read_vertex_labels(path).tolist() == [0, 5, 1, 180]

    @pytest.mark.parametrize("wrong", [-1, 0.5, np.nan, 40_000])
    def test_what_is_no_label_is_refused(self, tmp_path: Path, wrong: float) -> None:
        path = write_mgh(tmp_path / "lh.streams.mgz", np.array([0, 5, wrong]))
        with pytest.raises(InputFileError, match="does not hold labels"):
            read_vertex_labels(path)

    @pytest.mark.parametrize("wrong", [-0.1, 101, np.inf])
    def test_what_is_no_ncsnr_is_refused(self, tmp_path: Path, wrong: float) -> None:
        path = write_mgh(tmp_path / "lh.ncsnr.mgh", np.array([0, np.nan, wrong]))
        with pytest.raises(InputFileError, match="does not hold ncsnr"):
            read_vertex_ncsnr(path)

    def test_an_index_counts_from_one(self, tmp_path: Path) -> None:
        path = write_mgh(tmp_path / "lh.white-to-fsaverage.mgz", np.array([1, 9, 3, 3]))
        index = read_vertex_index(path, 4, 9)
        assert index.dtype == np.int64
        assert index.tolist() == [0, 8, 2, 2]

    @pytest.mark.parametrize("wrong", [0, 10, 1.5, np.nan, 9999, -1])
    def test_an_index_outside_of_the_surface_is_refused(self, tmp_path: Path, wrong: float) -> None:
        path = write_mgh(tmp_path / "lh.white-to-fsaverage.mgz", np.array([1, 9, wrong]))
        with pytest.raises(InputFileError, match=r"from 1 to 9, found .* at the vertex 2"):
            read_vertex_index(path, 3, 9)

    def test_as_many_counterparts_as_vertices(self, tmp_path: Path) -> None:
        path = write_mgh(tmp_path / "lh.white-to-fsaverage.mgz", np.array([1, 9, 2]))
        with pytest.raises(InputFileError, match="found 3 values"):
            read_vertex_index(path, 4, 9)

    def test_9999_stands_for_none_where_it_is_far_too_often_there(self, tmp_path: Path) -> None:
        index = np.r_[np.arange(1, 12_001), np.arange(1, 2_001)]
        path = write_mgh(tmp_path / "lh.white-to-fsaverage.mgz", index)
        assert read_vertex_index(path, 14_000, 12_000)[9998] == 9998
        write_mgh(path, np.where(index % 1000 == 7, 9999, index))
        with pytest.raises(InputFileError, match="9999, which stands for none, at 15 vertices"):
            read_vertex_index(path, 14_000, 12_000)

    @pytest.mark.parametrize(
        "content", [b"", b"x" * 500, mgh(np.zeros(100))[:300], mgh(np.zeros(4), kind=77)]
    )
    def test_a_damaged_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "lh.ncsnr.mgh"
        path.write_bytes(content)
        with pytest.raises(InputFileError, match="cannot be read as an MGH file"):
            read_vertices(path)
        path.write_bytes(gzip.compress(mgh(np.zeros(100)))[:-20])
        with pytest.raises(InputFileError, match="cannot be read as an MGH file"):
            read_vertices(path)

    def test_frames_are_no_values_of_vertices(self, tmp_path: Path) -> None:
        path = write_mgh(tmp_path / "lh.betas.mgh", np.zeros((4, 1, 1, 3)))
        with pytest.raises(InputFileError, match="expected"):
            read_vertices(path)


def dataset(space: str, surface_files: str = "native") -> Dataset:
    return Dataset(
        root=Path("/nsd"),
        layout="official",
        name="NSD",
        is_nsd=True,
        preparation="betas_fithrf",
        trials_per_session=750,
        sessions={1: 40},
        source=FolderSource(Path("/nsd")),
        space=space,
        surface_files=surface_files,
    )


class TestPaths:
    """The official paths, spelled out."""

    def test_fsaverage(self) -> None:
        nsd = dataset("fsaverage", "mgh")
        betas = "/nsd/nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf"
        assert nsd.sides == ("lh", "rh")
        assert str(nsd.session_file(1, 2, "rh")) == f"{betas}/rh.betas_session02.mgh"
        assert str(nsd.ncsnr_file(1, "lh")) == f"{betas}/lh.ncsnr.mgh"
        labels = "/nsd/nsddata/freesurfer/fsaverage/label"
        assert str(nsd.roi_file(1, "streams", "lh")) == f"{labels}/lh.streams.mgz"
        assert str(nsd.label_table(1, "streams")) == f"{labels}/streams.mgz.ctab"
        assert nsd.brain_mask_file(1) is None
        assert nsd.anatomy_file(1) is None

    def test_fsaverage_from_the_native_surface(self) -> None:
        nsd = dataset("fsaverage")
        betas = "/nsd/nsddata_betas/ppdata/subj01"
        assert (
            str(nsd.session_file(1, 2, "lh"))
            == f"{betas}/nativesurface/betas_fithrf/lh.betas_session02.hdf5"
        )
        assert str(nsd.ncsnr_file(1, "lh")) == f"{betas}/fsaverage/betas_fithrf/lh.ncsnr.mgh"
        assert (
            str(nsd.transform_file(1, "white-to-fsaverage", "rh"))
            == "/nsd/nsddata/ppdata/subj01/transforms/rh.white-to-fsaverage.mgz"
        )

    def test_nativesurface(self) -> None:
        nsd = dataset("nativesurface")
        betas = "/nsd/nsddata_betas/ppdata/subj01/nativesurface/betas_fithrf"
        assert str(nsd.session_file(1, 2, "rh")) == f"{betas}/rh.betas_session02.hdf5"
        assert str(nsd.ncsnr_file(1, "rh")) == f"{betas}/rh.ncsnr.mgh"
        labels = "/nsd/nsddata/freesurfer/subj01/label"
        assert str(nsd.roi_file(1, "floc-faces", "lh")) == f"{labels}/lh.floc-faces.mgz"
        assert str(nsd.label_table(1, "floc-faces")) == f"{labels}/floc-faces.mgz.ctab"

    def test_the_volume_of_1_mm(self) -> None:
        nsd = dataset("func1mm")
        assert nsd.sides == (None,)
        assert (
            str(nsd.session_file(1, 2))
            == "/nsd/nsddata_betas/ppdata/subj01/func1mm/betas_fithrf/betas_session02.hdf5"
        )
        volumes = "/nsd/nsddata/ppdata/subj01/func1mm"
        assert str(nsd.roi_file(1, "streams")) == f"{volumes}/roi/streams.nii.gz"
        assert str(nsd.anatomy_file(1)) == f"{volumes}/T1_to_func1mm.nii.gz"
        assert str(nsd.brain_mask_file(1)) == f"{volumes}/brainmask.nii.gz"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has 0 bytes"),
        (
            mgh(np.zeros((5, 1, 1, 30)))[:-20],
            r"is truncated: expected 884 bytes or more, found 880",
        ),
        (
            gzip.compress(mgh(np.zeros((5, 1, 1, 30))), mtime=0),
            "is compressed: .* decompress it with gunzip",
        ),
        # The other byte order.
        (
            np.frombuffer(mgh(np.zeros((5, 1, 1, 30))), ">i4").astype("<i4").tobytes(),
            "its header is",
        ),
        (mgh(np.zeros((5, 1, 1, 29))), r"of the shape \(5, 1, 1, 29\): expected \(5, 1, 1, 30\)"),
        (mgh(np.zeros((6, 1, 1, 30))), r"of the shape \(6, 1, 1, 30\): expected \(5, 1, 1, 30\)"),
        (mgh(np.zeros((5, 1, 1, 30)), kind=4), "betas of the type int16: expected float32"),
    ],
)
def test_what_is_no_session_of_frames_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "lh.betas_session01.mgh"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=message):
        check_session_file(path, (5,), 30)
