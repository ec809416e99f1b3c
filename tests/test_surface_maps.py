"""Maps of surfaces, and of voxels brought to fsaverage, as nibabel and FreeSurfer read them."""

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from range_server import RangeServer

import nsd_prep
from nsd_prep.core.errors import ParameterError
from nsd_prep.dataset.space import SurfaceSpace
from nsd_prep.flows.command import main
from nsd_prep.single_trials import open_single_trials, write_surface_map
from nsd_prep.synthetic import write_synthetic_nsd

SIDES = ("lh", "rh")


@pytest.fixture(scope="module")
def trials(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of single trials of voxels."""
    folder = tmp_path_factory.mktemp("trials")
    nsd_prep.prepare(
        nsd_root=tiny_nsd,
        output_dir=folder,
        subjects=[2],
        single_trials=True,
        assemblies=False,
        report=False,
    )
    return folder / "subj02.nc"


def vertices(path: Path) -> np.ndarray:
    image = nibabel.load(path)
    if path.suffix == ".gii":
        return np.asarray(image.darrays[0].data)
    return np.asarray(image.dataobj).squeeze()


def sampled(root: Path, volume: np.ndarray, side: str) -> np.ndarray:
    """Bring a volume (X, Y, Z) of subject 2 to fsaverage, one vertex after the other."""
    folder = root / "nsddata/ppdata/subj02/transforms"
    place, index = (
        np.asarray(nibabel.load(folder / f"{side}.{name}.mgz").dataobj).squeeze()
        for name in ("func1pt8-to-white", "white-to-fsaverage")
    )
    values = []
    for vertex in index.astype(int) - 1:
        i, j, k = place[vertex]
        values.append(np.nan if i == 9999 else volume[round(i - 1), round(j - 1), round(k - 1)])
    return np.float32(values)


class TestSurfaceMap:
    @pytest.mark.parametrize("ending", [".gii", ".mgh", ".mgz"])
    def test_each_hemisphere_has_its_own_vertices(self, tmp_path: Path, ending: str) -> None:
        values = np.arange(12, dtype=np.float32)
        values[3] = np.nan
        space = SurfaceSpace((7, 5), "nativesurface")
        files = write_surface_map(tmp_path / f"score{ending}", values, space)
        assert files == tuple(tmp_path / f"{side}.score{ending}" for side in SIDES)
        np.testing.assert_array_equal(vertices(files[0]), values[:7])
        np.testing.assert_array_equal(vertices(files[1]), values[7:])
        assert vertices(files[0]).dtype.kind == "f"
        before = [hashlib.sha256(file.read_bytes()).digest() for file in files]
        write_surface_map(tmp_path / f"score{ending}", values, space)
        assert before == [hashlib.sha256(file.read_bytes()).digest() for file in files]

    def test_a_gifti_names_its_hemisphere(self, tmp_path: Path) -> None:
        files = write_surface_map(tmp_path / "score.gii", np.zeros(12), SurfaceSpace((7, 5)))
        names = [nibabel.load(file).meta["AnatomicalStructurePrimary"] for file in files]
        assert names == ["CortexLeft", "CortexRight"]

    def test_what_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match=r"ends in \.gii, \.mgh, \.mgz"):
            write_surface_map(tmp_path / "map.nii.gz", np.zeros(12), SurfaceSpace((7, 5)))
        with pytest.raises(ParameterError, match=r"expected \(12,\), a value for each vertex"):
            write_surface_map(tmp_path / "map.gii", np.zeros(7), SurfaceSpace((7, 5)))
        assert list(tmp_path.iterdir()) == []


class TestCommand:
    def test_scores_of_voxels_go_to_fsaverage(
        self, tiny_nsd: Path, trials: Path, tmp_path: Path
    ) -> None:
        with open_single_trials(trials) as opened:
            place = [opened[f"nifti_{axis}"].to_numpy() for axis in "ijk"]
        score = np.random.default_rng(0).normal(size=len(place[0])).astype(np.float32)
        np.save(tmp_path / "score.npy", score)
        words = [str(trials), str(tmp_path / "score.npy"), "--to", "fsaverage"]
        assert main(["map", *words, "--nsd-root", str(tiny_nsd)]) == 0
        volume = np.full((10, 13, 11), np.nan, dtype=np.float32)
        volume[tuple(place)] = score
        for side in SIDES:
            found = vertices(tmp_path / f"{side}.score.mgh")
            np.testing.assert_array_equal(found, sampled(tiny_nsd, volume, side))
            assert 20 < np.isfinite(found).sum() < 321

    def test_a_column_goes_to_fsaverage_with_a_value_for_the_rest(
        self, tiny_nsd: Path, trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NSD_ROOT", str(tiny_nsd))
        words = ["map", str(trials), str(tmp_path / "v1.gii"), "--values", "in_V1"]
        assert main([*words, "--outside", "-1", "--to", "fsaverage"]) == 0
        folder = tiny_nsd / "nsddata/ppdata/subj02/func1pt8mm/roi"
        prf = np.asarray(nibabel.load(folder / "prf-visualrois.nii.gz").dataobj)
        for side in SIDES:
            found = vertices(tmp_path / f"{side}.v1.gii")
            in_v1 = np.isin(sampled(tiny_nsd, prf, side), (1, 2))
            np.testing.assert_array_equal(found == 1, in_v1)
            assert set(np.unique(found)) == {-1, 0, 1}

    def test_without_to_a_file_of_values_becomes_a_volume(
        self, trials: Path, tmp_path: Path
    ) -> None:
        with open_single_trials(trials) as opened:
            place = tuple(opened[f"nifti_{axis}"].to_numpy() for axis in "ijk")
        np.save(tmp_path / "score.npy", np.arange(len(place[0])))
        assert main(["map", str(trials), str(tmp_path / "score.npy")]) == 0
        volume = np.asarray(nibabel.load(tmp_path / "score.nii.gz").dataobj)
        np.testing.assert_array_equal(volume[place], np.arange(len(place[0])))

    def test_what_is_wrong_is_said(
        self,
        tiny_nsd: Path,
        trials: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.delenv("NSD_ROOT", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        words = ["map", str(trials), str(tmp_path / "map.gii"), "--to", "fsaverage"]
        assert main(words) == 1
        assert "give its root with --nsd-root" in capsys.readouterr().err
        write_synthetic_nsd(tmp_path / "demo", scale="demo", subjects=[2])
        assert main([*words, "--nsd-root", str(tmp_path / "demo")]) == 1
        assert "expected those of the same dataset" in capsys.readouterr().err
        write_synthetic_nsd(tmp_path / "tiny", subjects=[2], surfaces=False)
        assert main([*words, "--nsd-root", str(tmp_path / "tiny")]) == 1
        missing = "The transforms of subject 2 from func1pt8mm to fsaverage are missing: expected"
        assert f"{missing} {tmp_path}/tiny/" in capsys.readouterr().err
        with RangeServer(tmp_path / "tiny") as server:
            assert main([*words, "--nsd-root", server.url]) == 1
            assert f"{missing} {server.url}/" in capsys.readouterr().err
        with RangeServer(tmp_path / "demo") as server:
            assert main([*words, "--nsd-root", server.url]) == 1
            assert f" at {server.url}: expected those of the same" in capsys.readouterr().err
        np.save(tmp_path / "short.npy", np.zeros(3))
        words = ["map", str(trials), str(tmp_path / "short.npy"), "--to", "fsaverage"]
        assert main([*words, "--nsd-root", str(tiny_nsd)]) == 1
        assert "a value for each voxel or vertex" in capsys.readouterr().err
        assert not list(tmp_path.glob("*h.*"))
