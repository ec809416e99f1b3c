"""Values of any space on the cortex of fsaverage, and the report's maps of them."""

import gzip
import io
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from range_server import RangeServer

import nsd_prep
from nsd_prep.core.errors import InputFileError, MissingFilesError, ParameterError, PreflightError
from nsd_prep.core.parameters import parameters
from nsd_prep.dataset.cortex import Cortex, CortexMesh, read_fsaverage_index, read_meshes
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.mgh import mgh_content
from nsd_prep.dataset.space import SurfaceSpace, VolumeSpace
from nsd_prep.dataset.volumes import read_volume
from nsd_prep.pipeline.cortex import load_cortex
from nsd_prep.pipeline.loading import load_masks
from nsd_prep.pipeline.run import Run, plan_run
from nsd_prep.sources import retry
from nsd_prep.sources.opening import open_dataset

FSAVERAGE = 642
SIDES = ("lh", "rh")


@pytest.fixture
def dataset(tiny_nsd: Path) -> Dataset:
    return open_dataset(tiny_nsd)


def stored(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float64).squeeze()


def transform(root: Path, subject: int, side: str, name: str) -> Path:
    return root / f"nsddata/ppdata/subj{subject:02d}/transforms/{side}.{name}.mgz"


def native_space(root: Path, subject: int) -> SurfaceSpace:
    left, right = (
        len(stored(transform(root, subject, side, "fsaverage-to-white"))) for side in SIDES
    )
    return SurfaceSpace((left, right), "nativesurface")


class TestIndex:
    @pytest.mark.parametrize("subject", [1, 2, 5])
    def test_voxels_are_sampled_where_the_transforms_say(
        self, dataset: Dataset, tiny_nsd: Path, subject: int
    ) -> None:
        ncsnr = read_volume(dataset.ncsnr_file(subject))
        index = read_fsaverage_index(dataset, subject, ncsnr.space)
        found = index.values(ncsnr.values.ravel(), np.arange(ncsnr.values.size))
        volume = stored(dataset.ncsnr_file(subject))
        expected = []
        for side in SIDES:
            place = stored(transform(tiny_nsd, subject, side, "func1pt8-to-white"))
            for vertex in stored(transform(tiny_nsd, subject, side, "white-to-fsaverage")):
                at = place[int(vertex) - 1]
                voxel = tuple(int(np.floor(axis - 1 + 0.5)) for axis in at)
                expected.append(np.nan if at[0] == 9999 else volume[voxel])
        np.testing.assert_array_equal(found, np.float32(expected))
        assert 50 < np.isfinite(found).sum() < len(found)
        assert index.fsaverage == SurfaceSpace((FSAVERAGE, FSAVERAGE), "fsaverage")

    def test_vertices_are_taken_from_their_own_hemisphere(
        self, dataset: Dataset, tiny_nsd: Path
    ) -> None:
        space = native_space(tiny_nsd, 2)
        index = read_fsaverage_index(dataset, 2, space)
        values = np.arange(space.n_sites, dtype=np.float32)
        found = index.values(values, np.arange(space.n_sites)).reshape(2, -1)
        for row, (side, first) in enumerate(zip(SIDES, (0, space.vertices[0]), strict=True)):
            of_side = stored(transform(tiny_nsd, 2, side, "white-to-fsaverage"))
            np.testing.assert_array_equal(found[row], first + of_side - 1)
        folder = tiny_nsd / "nsddata_betas/ppdata/subj02"
        preparation = "betas_fithrf_GLMdenoise_RR"
        files = [[f"{kind}/{preparation}/{side}.ncsnr.mgh" for side in SIDES] for kind in KINDS]
        native, template = (np.concatenate([stored(folder / f) for f in pair]) for pair in files)
        np.testing.assert_array_equal(index.values(native, np.arange(space.n_sites)), template)

    def test_some_sites_leave_the_others_empty(self, dataset: Dataset) -> None:
        space = SurfaceSpace((FSAVERAGE, FSAVERAGE))
        index = read_fsaverage_index(dataset, 1, space)
        found = index.values([2.5, 3.5], np.array([3, FSAVERAGE + 7]))
        assert np.flatnonzero(np.isfinite(found)).tolist() == [3, FSAVERAGE + 7]
        assert found[[3, FSAVERAGE + 7]].tolist() == [2.5, 3.5]

    def test_missing_transforms_are_named(self, tiny_nsd: Path, tmp_path: Path) -> None:
        root = shutil.copytree(tiny_nsd, tmp_path / "nsd")
        transform(root, 1, "rh", "func1pt8-to-white").unlink()
        dataset = open_dataset(root)
        space = read_volume(dataset.ncsnr_file(1)).space
        with pytest.raises(MissingFilesError, match=r"expected [^,]*rh\.func1pt8-to-white\.mgz;"):
            read_fsaverage_index(dataset, 1, space)

    def test_another_space_is_refused(self, dataset: Dataset) -> None:
        with pytest.raises(ParameterError, match="No transform leads from func1mm"):
            read_fsaverage_index(dataset, 1, VolumeSpace((9, 9, 9), np.eye(4), "func1mm"))

    @pytest.mark.parametrize(
        ("name", "values", "message"),
        [
            ("white-to-fsaverage", np.zeros(FSAVERAGE), "points outside"),
            ("white-to-fsaverage", np.full(FSAVERAGE, 5000.0), "points outside"),
            ("func1pt8-to-white", np.ones((900, 2)), r"expected \(V, 3\)"),
        ],
    )
    def test_damaged_transforms_are_refused(
        self, tiny_nsd: Path, tmp_path: Path, name: str, values: np.ndarray, message: str
    ) -> None:
        root = shutil.copytree(tiny_nsd, tmp_path / "nsd")
        transform(root, 1, "lh", name).write_bytes(gzip.compress(mgh_content(values)))
        dataset = open_dataset(root)
        space = read_volume(dataset.ncsnr_file(1)).space
        with pytest.raises(InputFileError, match=message):
            read_fsaverage_index(dataset, 1, space)

    def test_a_vertex_outside_of_the_volume_has_no_voxel(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(tiny_nsd, tmp_path / "nsd")
        path = transform(root, 1, "lh", "func1pt8-to-white")
        place = stored(path)
        place[:] = [1, 1, 1]
        place[5], place[6], place[7] = [0.4, 1, 1], [9.6, 1, 1], [np.nan, 1, 1]
        place[8] = [9.4, 12.4, 10.4]  # the last voxel of (9, 12, 10)
        path.write_bytes(gzip.compress(mgh_content(place)))
        to_fsaverage = transform(root, 1, "lh", "white-to-fsaverage")
        to_fsaverage.write_bytes(gzip.compress(mgh_content(np.arange(FSAVERAGE) + 1)))
        dataset = open_dataset(root)
        index = read_fsaverage_index(dataset, 1, read_volume(dataset.ncsnr_file(1)).space)
        assert index.sites[4:10].tolist() == [0, -1, -1, -1, 9 * 12 * 10 - 1, 0]


KINDS = ("nativesurface", "fsaverage")


class TestLoading:
    def test_meshes_of_the_dataset_are_read(self, dataset: Dataset) -> None:
        for mesh in read_meshes(dataset):
            assert mesh.coordinates.shape == (FSAVERAGE, 3)
            assert mesh.faces.max() == FSAVERAGE - 1
            assert mesh.sulcal_depth.shape == (FSAVERAGE,)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("lh.inflated", "cannot be read as a surface"), ("rh.sulc", "is of another mesh than")],
    )
    def test_a_damaged_mesh_is_a_problem_before_the_run(
        self, tiny_nsd: Path, tmp_path: Path, name: str, message: str
    ) -> None:
        pytest.importorskip("nilearn")
        root = shutil.copytree(tiny_nsd, tmp_path / "nsd")
        path = root / "nsddata/freesurfer/fsaverage/surf" / name
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(PreflightError, match=f"{name}.* {message}"):
            nsd_prep.prepare(nsd_root=root, output_dir=tmp_path / "out", regions=["V1"])

    def test_without_nilearn_or_a_report_there_is_no_cortex(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = plan_run(**parameters(nsd_root=tiny_nsd, output_dir=tmp_path / "out"))
        assert load_cortex(run.model_copy(update={"report": False}), {}) is None
        monkeypatch.setattr("nsd_prep.pipeline.cortex.find_spec", lambda _: None)
        assert load_cortex(run, {}) is None


def planned(root: object, out: Path, **options: object) -> Run:
    return plan_run(**parameters(nsd_root=root, output_dir=out, regions=["V1"], **options))


class TestFromAnAddress:
    @pytest.fixture(autouse=True)
    def with_nilearn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nsd_prep.pipeline.cortex.find_spec", lambda _: object())

    @pytest.mark.parametrize("space", ["func1pt8mm", "nativesurface", "fsaverage"])
    def test_it_is_that_of_the_folder(self, tiny_nsd: Path, tmp_path: Path, space: str) -> None:
        local = planned(tiny_nsd, tmp_path / "local", space=space)
        expected = load_cortex(local, {n: load_masks(local, n) for n in local.subjects})
        assert expected is not None
        with RangeServer(tiny_nsd) as server:
            run = planned(server.url, tmp_path / "remote", space=space)
            masks = {subject: load_masks(run, subject) for subject in run.subjects}
            server.reset_counters()
            found = load_cortex(run, masks)
            fetched = [name for method, name in server.requested if method == "GET"]
        assert found is not None
        assert found.indices.keys() == expected.indices.keys()
        for subject, index in found.indices.items():
            np.testing.assert_array_equal(index.sites, expected.indices[subject].sites)
        for mesh, other in zip(found.meshes, expected.meshes, strict=True):
            np.testing.assert_array_equal(mesh.coordinates, other.coordinates)
            np.testing.assert_array_equal(mesh.sulcal_depth, other.sulcal_depth)
        assert [file.blake3 for file in found.files] == [file.blake3 for file in expected.files]
        assert len(fetched) == len(set(fetched)) == len(found.files)
        assert not any("betas_session" in name for name in fetched)

    def test_a_server_that_does_not_answer_leaves_the_pictures_out(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(retry, "OUTAGE_SECONDS", 0.3)
        with RangeServer(tiny_nsd) as server:
            run = planned(server.url, tmp_path / "out")
            masks = {subject: load_masks(run, subject) for subject in run.subjects}
            server.down()
            assert load_cortex(run, masks) is None
            server.up()
        assert "Maps on the cortex are left out: " in caplog.text

    def test_a_space_that_does_not_lead_to_fsaverage_is_not_drawn(self, dataset: Dataset) -> None:
        source = SimpleNamespace()  # whatever is asked of it is an error
        own = replace(dataset, space="func1mm", source=source)
        run = SimpleNamespace(assemblies=True, report=True, dataset=lambda: own)
        assert load_cortex(run, {}) is None


def octahedron(subject_sites: np.ndarray) -> tuple[Cortex, pd.DataFrame]:
    """Return a cortex of two octahedra, finer by one division, and a table of its sites."""
    from nsd_prep.synthetic.surfaces import _icosphere

    vertices, faces = _icosphere(162)
    mesh = CortexMesh(vertices * [30, 80, 50], faces, np.zeros(162))
    space = SurfaceSpace((162, 162))
    from nsd_prep.dataset.cortex import FsaverageIndex

    index = FsaverageIndex(space, np.arange(324))
    table = pd.DataFrame(space.table(subject_sites))
    return Cortex({"subj01": index, "subj02": index}, (mesh, mesh)), table


class TestFigure:
    @pytest.mark.slow
    def test_a_map_shows_means_in_the_hemisphere_that_has_them(self) -> None:
        pytest.importorskip("nilearn")
        from nsd_prep.report.figures.cortex import NOISE_CEILING, draw_cortex

        sites = 162 + np.arange(162)  # the right hemisphere, all of it
        cortex, table = octahedron(sites)
        rows = [
            table.assign(subject=name, region="all", ncsnr=1.0, noise_ceiling=ceiling)
            for name, ceiling in (("subj01", 0.0), ("subj02", 80.0))
        ]
        drawn = draw_cortex(pd.concat(rows, ignore_index=True), cortex, NOISE_CEILING)
        again = draw_cortex(pd.concat(rows, ignore_index=True), cortex, NOISE_CEILING)
        assert drawn.png == again.png
        assert "mean over the subjects, of 2" in drawn.caption
        pixels = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGB")).astype(int)
        pixels = pixels[:, : int(0.85 * pixels.shape[1])]  # without the scale
        half = pixels.shape[0] // 2
        middle = (np.abs(pixels - [238, 91, 47]).max(axis=2) < 12).sum(axis=1)  # of the colours
        assert middle[half:].sum() > 5000
        assert middle[:half].sum() == 0

    def test_regions_are_named_where_they_are_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("nilearn")
        from nsd_prep.report.figures import cortex as figures

        cortex, table = octahedron(np.arange(324))
        axes, drawn = cortex.meshes[0].coordinates[:, 0], []
        medial = np.argsort(-axes)[:20]  # of the left hemisphere, towards the right
        rows = [
            table.iloc[sites].assign(subject="subj01", region=name, ncsnr=1.0, noise_ceiling=9.0)
            for name, sites in (("one", medial[:10]), ("other", medial[10:]))
        ]
        monkeypatch.setattr(figures, "picture", lambda figure, *_, **__: drawn.append(figure))
        figures.draw_cortex(pd.concat(rows, ignore_index=True), cortex, figures.NOISE_CEILING)
        texts = [[text.get_text() for text in view.texts] for view in drawn[0].axes[:6]]
        assert texts == [[], ["one", "other"], [], [], [], []]
        first, second = (text.get_position() for text in drawn[0].axes[1].texts)
        assert first != second

    def test_sites_without_an_ncsnr_are_left_blank(self) -> None:
        pytest.importorskip("nilearn")
        from nsd_prep.report.figures.cortex import NOISE_CEILING, draw_cortex

        cortex, table = octahedron(np.arange(324))
        table = table.assign(subject="subj01", region="all", ncsnr=np.nan, noise_ceiling=0.0)
        drawn = draw_cortex(table, cortex, NOISE_CEILING)
        pixels = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGB")).astype(int)
        colourful = np.ptp(pixels, axis=2) > 40
        rows, columns = int(0.9 * len(pixels)), int(0.85 * pixels.shape[1])
        assert not colourful[:rows, :columns].any()  # without the legend and the scale

    @pytest.mark.slow
    def test_fsaverage_itself_is_drawn_on_the_mesh_that_nilearn_ships(self) -> None:
        pytest.importorskip("nilearn")
        from nsd_prep.dataset.cortex import FsaverageIndex
        from nsd_prep.report.figures.cortex import SPLIT_HALF, draw_cortex

        space = SurfaceSpace((163_842, 163_842))
        index = FsaverageIndex(space, np.arange(space.n_sites))
        table = pd.DataFrame(space.table(np.arange(0, 163_842, 1)))
        table = table.assign(subject="subj01", region="left", ncsnr=1, split_half_correlation=0.3)
        drawn = draw_cortex(table, Cortex({"subj01": index}, None), SPLIT_HALF)
        pixels = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGB")).astype(int)
        colourful = np.ptp(pixels, axis=2)[:, : int(0.85 * pixels.shape[1])] > 60
        half = len(colourful) // 2
        assert colourful[:half].sum() > 20_000
        assert colourful[half : int(0.9 * len(colourful))].sum() == 0

    @pytest.mark.slow
    def test_the_report_has_both_maps_and_the_manifest_their_files(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        pytest.importorskip("nilearn")
        out = tmp_path / "out"
        nsd_prep.prepare(nsd_root=tiny_nsd, output_dir=out, regions=["V1"], brainscore=False)
        page = (out / "report" / "index.html").read_text()
        assert "Maps on the cortex" in page
        assert 'alt="Noise ceilings on the cortex"' in page
        assert 'alt="Correlation between repetitions on the cortex"' in page
        manifest = (out / "manifest.json").read_text()
        assert "lh.func1pt8-to-white.mgz" in manifest
        assert "rh.inflated" in manifest
