"""The synthetic NSD's surfaces: NSD's files, and the volumes' latents behind them."""

import struct
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import loadmat
from scipy.spatial import ConvexHull, KDTree
from test_synthetic import digests, slow_ncsnr

from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.synthetic import PLANS, read_truth, read_vertex_truth, write_synthetic_nsd
from nsd_prep.synthetic.anatomy import make_cortex
from nsd_prep.synthetic.labels import make_labels
from nsd_prep.synthetic.surfaces import make_fsaverage, make_native

SESSIONS = {1: 6, 2: 6, 5: 5}
TRIALS = 30
FSAVERAGE = 642
SIDES = ("lh", "rh")
PREPARATION = "betas_fithrf_GLMdenoise_RR"
#: What Brain-Score's regions are on fsaverage.
REGIONS = {
    "V1": ("Kastner2015", (1, 2)),
    "V2": ("Kastner2015", (3, 4)),
    "V4": ("Kastner2015", (7,)),
    "IT": ("streams", (5,)),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("surfaces") / "nsd"
    write_synthetic_nsd(path)
    return path


def values(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float64).squeeze()


def betas_folder(root: Path, subject: int, space: str) -> Path:
    return root / f"nsddata_betas/ppdata/subj{subject:02d}/{space}/{PREPARATION}"


def native(root: Path, subject: int, side: str, session: int) -> np.ndarray:
    name = f"{side}.betas_session{session:02d}.hdf5"
    with h5py.File(betas_folder(root, subject, "nativesurface") / name) as file:
        return file["betas"][:]


def fsaverage(root: Path, subject: int, side: str, session: int) -> np.ndarray:
    name = f"{side}.betas_session{session:02d}.mgh"
    return values(betas_folder(root, subject, "fsaverage") / name).T


def transform(root: Path, subject: int, side: str, name: str) -> np.ndarray:
    return values(root / f"nsddata/ppdata/subj{subject:02d}/transforms/{side}.{name}.mgz")


def labels(root: Path, surface: str, side: str, family: str) -> np.ndarray:
    return values(root / f"nsddata/freesurfer/{surface}/label/{side}.{family}.mgz")


class TestFiles:
    @pytest.mark.parametrize("subject", SESSIONS)
    @pytest.mark.parametrize("side", SIDES)
    def test_native_betas_have_a_chunk_for_each_vertex(
        self, root: Path, subject: int, side: str
    ) -> None:
        n_vertices = len(labels(root, f"subj{subject:02d}", side, "streams"))
        folder = betas_folder(root, subject, "nativesurface")
        paths = sorted(folder.glob(f"{side}.betas_session*.hdf5"))
        assert len(paths) == SESSIONS[subject]
        for path in paths:
            with h5py.File(path) as file:
                betas = file["betas"]
                assert betas.shape == (TRIALS, n_vertices)
                assert (betas.dtype, betas.chunks) == (np.dtype("<i2"), (TRIALS, 1))
                assert (betas.compression, list(betas.attrs), list(file)) == (None, [], ["betas"])

    def test_meshes_are_of_unequal_size_and_indices_are_their_own(self, root: Path) -> None:
        sizes = [
            len(labels(root, f"subj{subject:02d}", side, "streams"))
            for subject in SESSIONS
            for side in SIDES
        ]
        assert len(set(sizes)) == len(sizes)
        assert min(sizes) > FSAVERAGE
        for plan in PLANS.values():
            assert all(left != right for left, right in plan.surfaces.native.values())
        for family in ("Kastner2015", "streams"):
            left, right = (labels(root, "fsaverage", side, family) for side in SIDES)
            assert ((left > 0) & (right == 0)).sum() > 0.5 * (left > 0).sum()

    def test_mgh_is_to_the_byte_as_nsd_has_it(self, root: Path) -> None:
        name = "lh.betas_session02.mgh"
        content = (betas_folder(root, 1, "fsaverage") / name).read_bytes()
        assert len(content) == 284 + 4 * FSAVERAGE * TRIALS + 16
        assert struct.unpack(">7i", content[:28]) == (1, FSAVERAGE, 1, 1, TRIALS, 3, 0)
        frame = np.frombuffer(content, ">f4", FSAVERAGE, offset=284 + 4 * FSAVERAGE * 7)
        np.testing.assert_array_equal(frame, fsaverage(root, 1, "lh", 2)[7])

    @pytest.mark.parametrize("subject", SESSIONS)
    def test_labels_are_whole_numbers_with_a_name(self, root: Path, subject: int) -> None:
        own = f"subj{subject:02d}"
        for surface, families in (
            ("fsaverage", ("Kastner2015", "streams", "nsdgeneral", "HCP_MMP1", "corticalsulc")),
            (own, ("Kastner2015", "streams", "nsdgeneral", "HCP_MMP1", "corticalsulc")),
            (own, ("prf-visualrois", "prf-eccrois", "floc-faces", "floc-words", "floc-places")),
        ):
            for family in families:
                folder = root / f"nsddata/freesurfer/{surface}/label"
                table = (folder / f"{family}.mgz.ctab").read_text().split()
                for side in SIDES:
                    image = nibabel.load(folder / f"{side}.{family}.mgz")
                    assert image.get_data_dtype() == np.dtype(">f4")
                    assert image.shape[1:] == (1, 1)
                    found = np.unique(np.asarray(image.dataobj))
                    assert found[0] == 0
                    assert len(found) > 1
                    assert {str(int(label)) for label in found[1:]} <= set(table[::2])
        assert not (root / "nsddata/freesurfer/fsaverage/label/lh.prf-visualrois.mgz").exists()

    @pytest.mark.parametrize("side", SIDES)
    def test_the_mesh_of_fsaverage_is_closed_and_has_its_medial_side_inward(
        self, root: Path, side: str
    ) -> None:
        folder = root / "nsddata/freesurfer/fsaverage/surf"
        vertices, faces = nibabel.freesurfer.read_geometry(folder / f"{side}.inflated")
        assert vertices.shape == (FSAVERAGE, 3)
        assert faces.shape == (2 * FSAVERAGE - 4, 3)
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
        a, b, c = (vertices[faces[:, corner]] for corner in range(3))
        assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a) > 0).all()
        assert len(ConvexHull(vertices).vertices) == FSAVERAGE
        # The occipital pole is behind, and V1 on the medial side of it.
        middle = vertices[labels(root, "fsaverage", side, "Kastner2015") == 1].mean(axis=0)
        assert middle[1] < -30
        assert (middle[0] > 0) == (side == "lh")
        sulc = nibabel.freesurfer.read_morph_data(folder / f"{side}.sulc")
        assert sulc.shape == (FSAVERAGE,)
        assert 0.5 < sulc.std() < 2


class TestTransforms:
    @pytest.mark.parametrize("subject", SESSIONS)
    @pytest.mark.parametrize("side", SIDES)
    def test_they_count_from_1_and_stay_within_the_surface(
        self, root: Path, subject: int, side: str
    ) -> None:
        n_native = len(labels(root, f"subj{subject:02d}", side, "streams"))
        to_fsaverage = transform(root, subject, side, "white-to-fsaverage")
        to_white = transform(root, subject, side, "fsaverage-to-white")
        for index, n_own, n_other in (
            (to_fsaverage, FSAVERAGE, n_native),
            (to_white, n_native, FSAVERAGE),
        ):
            assert index.shape == (n_own,)
            assert (index == index.round()).all()
            assert 1 <= index.min() <= index.max() <= n_other
        assert to_fsaverage.max() > FSAVERAGE
        # Nearest neighbours: there and back again leads to a neighbour at most.
        back = to_white.astype(int)[to_fsaverage.astype(int) - 1]
        assert (back == np.arange(FSAVERAGE) + 1).mean() > 0.5

    @pytest.mark.parametrize("subject", SESSIONS)
    @pytest.mark.parametrize("side", SIDES)
    def test_labelled_vertices_lie_in_the_voxels_of_their_hemisphere_and_region(
        self, root: Path, subject: int, side: str
    ) -> None:
        place = transform(root, subject, side, "func1pt8-to-white")
        none = (place == 9999).all(axis=1)
        assert 0.02 < none.mean() < 0.2
        assert (place[~none] < 9999).all()
        voxels = np.rint(place[~none] - 1).astype(int)
        folder = root / f"nsddata/ppdata/subj{subject:02d}/func1pt8mm/roi"
        for family, numbers in {"prf-visualrois": (1, 2), "streams": (5,)}.items():
            volume = values(folder / f"{side}.{family}.nii.gz")
            own = labels(root, f"subj{subject:02d}", side, family)
            assert not own[none].any()
            sampled = volume[tuple(voxels.T)]
            assert (sampled >= 0).all()
            inside = np.isin(own[~none], numbers)
            assert np.isin(sampled[inside], numbers).mean() > 0.9
            assert np.isin(sampled[~inside], numbers).mean() < 0.1

    def test_an_atlas_is_the_same_label_on_both_surfaces(self, root: Path) -> None:
        index = transform(root, 2, "rh", "fsaverage-to-white").astype(int) - 1
        for family in ("Kastner2015", "streams", "HCP_MMP1", "nsdgeneral"):
            template = labels(root, "fsaverage", "rh", family)
            np.testing.assert_array_equal(labels(root, "subj02", "rh", family), template[index])


class TestBetas:
    @pytest.mark.parametrize("subject", SESSIONS)
    @pytest.mark.parametrize("side", SIDES)
    def test_both_forms_hold_the_same_floats(self, root: Path, subject: int, side: str) -> None:
        index = transform(root, subject, side, "white-to-fsaverage").astype(int) - 1
        for session in (1, SESSIONS[subject]):
            stored = native(root, subject, side, session)[:, index].astype(np.float64)
            floats = fsaverage(root, subject, side, session)
            empty = np.isnan(floats)
            np.testing.assert_array_equal(empty.any(axis=0), empty.all(axis=0))
            np.testing.assert_array_equal(empty.all(axis=0), ~stored.any(axis=0))
            clipped = np.clip(300 * np.where(empty, 0, floats), -32768, 32767)
            assert np.abs(stored - clipped).max() < 0.502  # float32 before it was rounded

    def test_all_vertices_of_regions_respond_but_a_few(self, root: Path) -> None:
        never = partly = 0
        for subject, sessions in SESSIONS.items():
            for side in SIDES:
                betas = [native(root, subject, side, n + 1).any(axis=0) for n in range(sessions)]
                has_data = np.array(betas)
                general = labels(root, f"subj{subject:02d}", side, "nsdgeneral") > 0
                never += int((~has_data.any(axis=0) & general).sum())
                partly += int((has_data.any(axis=0) & ~has_data.all(axis=0) & general).sum())
                assert has_data[:, general].mean() > 0.95
                on_fsaverage = ~np.isnan(fsaverage(root, subject, side, 1)[0])
                for family, numbers in REGIONS.values():
                    own = np.isin(labels(root, "fsaverage", side, family), numbers)
                    assert on_fsaverage[own].mean() > 0.8
        assert never >= 2
        assert partly >= 3

    def test_a_region_has_its_own_latents_on_either_surface_and_in_the_volume(
        self, root: Path
    ) -> None:
        truth = read_truth(root)
        design = loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat")
        for subject, sessions in SESSIONS.items():
            numbers = design["masterordering"][0, : sessions * TRIALS].astype(int)
            latents = truth.latents(subject)[1][numbers - 1]
            for side in SIDES:
                of_vertices = read_vertex_truth(root, subject)[side]
                good = of_vertices.has_data.all(axis=1) & (of_vertices.signal_strength > 0.7)
                tuned = latents @ of_vertices.tuning[good].T
                betas = np.array([native(root, subject, side, n + 1) for n in range(sessions)])
                betas = betas[:, :, of_vertices.vertex_index[good]].astype(float)
                z = betas - betas.mean(axis=1, keepdims=True)
                z = (z / z.std(axis=1, keepdims=True)).reshape(len(numbers), -1)
                expected = tuned - tuned.mean(axis=0)
                agreement = (z * expected).mean(axis=0) / expected.std(axis=0)
                assert agreement.mean() > 0.5
                shifted = (np.roll(z, 1, axis=0) * expected).mean(axis=0)
                assert abs(shifted.mean()) < 0.15
                # The region of a vertex is that of its label.
                own = labels(root, f"subj{subject:02d}", side, "prf-visualrois")
                of_labels = own[of_vertices.vertex_index]
                for region, code in (((1, 2), 0), ((3, 4), 1), ((7,), 3)):
                    inside = np.isin(of_labels, region)
                    assert inside.any()
                    assert (of_vertices.region[inside] == code).all()

    def test_ncsnr_is_what_the_authors_procedure_gives(self, root: Path) -> None:
        ordering = loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat")["masterordering"]
        for subject, sessions in SESSIONS.items():
            numbers = ordering[0, : sessions * TRIALS].astype(int)
            for side in SIDES:
                betas = np.array([native(root, subject, side, n + 1) for n in range(sessions)])
                folder = betas_folder(root, subject, "nativesurface")
                files = [values(folder / f"{side}.ncsnr{end}.mgh") for end in SPLITS]
                of_vertices = read_vertex_truth(root, subject)[side]
                for vertex in of_vertices.vertex_index[::5]:
                    for stored, odd in zip(files, SPLITS.values(), strict=True):
                        used = [n if odd is None or n % 2 == odd else -n for n in numbers.tolist()]
                        expected = slow_ncsnr_of(betas[:, :, vertex], used)
                        np.testing.assert_allclose(stored[vertex], expected, rtol=1e-3, atol=3e-3)
                np.testing.assert_array_equal(files[0][of_vertices.vertex_index], of_vertices.ncsnr)
                outside = np.setdiff1d(np.arange(len(files[0])), of_vertices.vertex_index)
                assert np.isnan(files[0][outside]).all()
                index = transform(root, subject, side, "white-to-fsaverage").astype(int) - 1
                template = values(betas_folder(root, subject, "fsaverage") / f"{side}.ncsnr.mgh")
                np.testing.assert_array_equal(template, files[0][index])


#: The files of ncsnr, and whether they are of images with odd numbers.
SPLITS = {"": None, "_split1": 1, "_split2": 0}


def slow_ncsnr_of(betas: np.ndarray, numbers: list[int]) -> float:
    """Compute a vertex's ncsnr over the images whose numbers are positive."""
    unused = iter(range(-10_000, 0))
    return slow_ncsnr(betas, [n if n > 0 else next(unused) for n in numbers])


class TestOptions:
    def test_a_full_session_has_every_vertex(self, root: Path, tmp_path: Path) -> None:
        write_synthetic_nsd(tmp_path / "nsd", subjects=[5], full_sessions=[(5, 2)])
        for side in SIDES:
            place = transform(root, 5, side, "func1pt8-to-white")
            wall = place[:, 0] == 9999
            of_vertices = read_vertex_truth(root, 5)[side].vertex_index
            betas = native(tmp_path / "nsd", 5, side, 2)
            name = f"{side}.betas_session02.hdf5"
            with h5py.File(betas_folder(tmp_path / "nsd", 5, "nativesurface") / name) as file:
                chunks = file["betas"].id
                assert chunks.get_num_chunks() == len(place)
                offsets = [chunks.get_chunk_info(n).byte_offset for n in range(len(place))]
            assert offsets == sorted(offsets)
            np.testing.assert_array_equal(
                betas[:, of_vertices], native(root, 5, side, 2)[:, of_vertices]
            )
            others = np.setdiff1d(np.flatnonzero(~wall), of_vertices)
            assert (betas[:, others].std(axis=0) > 30).all()
            assert not betas[:, wall].any()
            index = transform(root, 5, side, "white-to-fsaverage").astype(int) - 1
            floats = fsaverage(tmp_path / "nsd", 5, side, 2)
            np.testing.assert_array_equal(np.isnan(floats[0]), ~betas.any(axis=0)[index])

    def test_volumes_alone_and_surfaces_alone_are_the_same_bytes(
        self, root: Path, tmp_path: Path
    ) -> None:
        write_synthetic_nsd(tmp_path / "volumes", surfaces=False)
        write_synthetic_nsd(tmp_path / "surfaces", volumes=False)
        both, volumes, surfaces = map(digests, (root, *map(tmp_path.joinpath, KINDS)))
        assert {**both, **volumes} == both
        ours = {name for name in volumes if "func1pt8mm" in name}
        assert set(both) - set(surfaces) == ours
        differing = {name for name in surfaces if surfaces[name] != both[name]}
        assert differing == {f"truth/subj{subject:02d}.npz" for subject in SESSIONS}
        assert not any("surface" in name or "fsaverage" in name for name in volumes)
        assert np.isnan(read_truth(tmp_path / "surfaces").subjects[1].ncsnr).all()
        with pytest.raises(InputFileError, match="no synthetic surfaces of subject 1"):
            read_vertex_truth(tmp_path / "volumes", 1)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layout": "flat", "surfaces": True}, "official layout"),
            ({"volumes": False, "surfaces": False}, "Neither volumes nor surfaces"),
            ({"scale": "demo", "volumes": False}, "Neither volumes nor surfaces"),
        ],
    )
    def test_impossible_choices_are_refused(
        self, tmp_path: Path, options: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ParameterError, match=message):
            write_synthetic_nsd(tmp_path / "nsd", **options)
        assert not (tmp_path / "nsd").exists()

    def test_the_demo_has_surfaces_where_they_are_asked_for(self, tmp_path: Path) -> None:
        calls: list[tuple[str, int, int]] = []
        write_synthetic_nsd(
            tmp_path / "nsd",
            scale="demo",
            subjects=[3],
            surfaces=True,
            progress=lambda what, done, total: calls.append((what, done, total)),
        )
        assert calls[-1] == ("session files", 27, 27)
        files = {path.name for path in betas_folder(tmp_path / "nsd", 3, "fsaverage").iterdir()}
        assert {f"{side}.betas_session{n:02d}.mgh" for side in SIDES for n in range(1, 10)} <= files


KINDS = ("volumes", "surfaces")


@pytest.mark.slow
class TestFullScale:
    def test_regions_have_the_published_vertices(self) -> None:
        template = make_fsaverage(PLANS["full"].surfaces, 0)
        own = make_labels(template.sites)
        found = {
            region: tuple(
                int(np.isin(template.side(own[family], side), numbers).sum()) for side in (0, 1)
            )
            for region, (family, numbers) in REGIONS.items()
        }
        assert found == {
            "V1": (2153, 2123),
            "V2": (1643, 1748),
            "V4": (410, 504),
            "IT": (9480, 9585),
        }

    def test_a_subject_has_nsds_vertices_in_slices_of_the_head(self) -> None:
        plan = PLANS["full"]
        template = make_fsaverage(plan.surfaces, 0)
        cortex = make_cortex(plan.subjects[5], 5, 0)
        surface = make_native(plan.surfaces, template, cortex, 5, 0, 0)
        assert len(surface.directions) == 197_594
        assert surface.white_to_fsaverage.shape == (163_842,)
        distance = KDTree(surface.directions).query(template.directions[0][::100])
        np.testing.assert_array_equal(distance[1], surface.white_to_fsaverage[::100])
        # Neighbours on the surface are near in the file, as those of NSD are.
        assert (np.abs(np.diff(surface.directions[:, 1])) < 0.05).mean() > 0.99
