"""NSD-imagery and NSD-synthetic: rows against their files, values against plain loops."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
from range_server import ServerProcess
from small_surfaces import write_mgh

from nsd_prep.checks.experiment_runs import check_experiment
from nsd_prep.core.errors import InputFileError, MissingFilesError, ParameterError
from nsd_prep.dataset.experiments import IMAGERY_RUNS, ROWS, rows_of_experiment
from nsd_prep.flows.command import main
from nsd_prep.notebook import NSD, open_nsd
from nsd_prep.pipeline.locks import only_run_in
from nsd_prep.single_trials import TrialReader, open_single_trials
from nsd_prep.single_trials.experiments import pooled_ncsnr, pooled_noise_ceiling
from nsd_prep.sources.opening import open_dataset
from nsd_prep.synthetic import write_synthetic_nsd

#: First and last row (half open) of each run.
BLOCKS = {
    "visA": (0, 48),
    "attA": (48, 144),
    "imgA_1": (144, 192),
    "visB": (192, 240),
    "attB": (240, 336),
    "imgB_1": (336, 384),
    "visC": (384, 432),
    "attC": (432, 528),
    "imgC_1": (528, 576),
    "imgA_2": (576, 624),
    "imgB_2": (624, 672),
    "imgC_2": (672, 720),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("experiments") / "nsd"
    write_synthetic_nsd(root, subjects=[1, 5], surfaces=False, experiments=["imagery", "synthetic"])
    return root


@pytest.fixture
def damaged(root: Path, tmp_path: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return a function that gives a copy of the dataset in which a file was changed."""

    def copy(name: str, change: Callable[[Path], None]) -> Path:
        target = shutil.copytree(root, tmp_path / "damaged")
        (path,) = target.rglob(name)
        change(path)
        return target

    return copy


@pytest.fixture(scope="module")
def nsd(root: Path, tmp_path_factory: pytest.TempPathFactory) -> NSD:
    return open_nsd(root, cache_dir=tmp_path_factory.mktemp("cache"))


def stored(root: Path, experiment: str, subject: int = 1) -> np.ndarray:
    """Return an experiment's betas (n_rows, Z, Y, X)."""
    (path,) = root.rglob(f"subj0{subject}/**/betas_nsd{experiment}.hdf5")
    with h5py.File(path, "r") as file:
        return file["betas"][:]


class TestImagery:
    def test_each_row_is_what_its_runs_file_says(self, root: Path, nsd: NSD) -> None:
        rows = nsd.experiment("imagery", 5, "V1").drop_vars("response").to_dataframe()
        rows = rows.groupby(level="trial").first()
        assert len(rows) == ROWS["imagery"] == 720
        n_trials = 0
        for run in IMAGERY_RUNS:
            first, last = BLOCKS[run.name]
            own = rows.iloc[first:last]
            assert (own["run"] == run.name).all()
            (path,) = root.rglob(f"nsdimagery_subj05_{run.name}.tsv")
            table = pd.read_csv(path, sep="\t")
            n_trials += len(table)
            place = np.arange(last - first) // ((last - first) // 48)
            assert own["trial_in_run"].tolist() == place.tolist()
            shown = table["CONDITION" if run.task == "vision" else "CUE"].to_numpy()[place]
            assert own["target"].tolist() == shown.tolist()
            assert own["cue"].tolist() == table["CUE"].to_numpy()[place].tolist()
            if run.task == "attention":
                assert own["epoch"].tolist() == ["cue", "detection"] * 48
            else:
                assert (own["epoch"] == "").all()
        assert n_trials == 576
        assert rows.loc[rows["target"] == "K", "nsd_id"].unique().tolist() == [30857]
        assert rows.loc[rows["target_set"] == "A", "nsd_id"].unique().tolist() == [-1]
        counts = rows.groupby(["task", "epoch", "target"])["repetition"].agg(["size", "max"])
        assert (counts["max"] == counts["size"] - 1).all()

    @pytest.mark.parametrize("normalise", ["run", "session", "none"])
    def test_values_against_plain_loops(self, root: Path, nsd: NSD, normalise: str) -> None:
        found = nsd.experiment("imagery", 1, ["V1", "IT"], normalise=normalise)
        volume = stored(root, "imagery").astype(np.float32) / np.float32(300)
        places = tuple(found[f"voxel_{axis}"].to_numpy() for axis in "xyz")
        values = np.asfortranarray(volume[(slice(None), *places)])
        parts = list(BLOCKS.values()) if normalise == "run" else [(0, 720)]
        expected = values.copy()
        for first, last in parts if normalise != "none" else []:
            part = np.asfortranarray(values[first:last])
            deviation = part.std(axis=0)
            constant = (part == part[0]).all(axis=0)
            expected[first:last] = np.where(
                constant, 0, (part - part.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
            )
        np.testing.assert_array_equal(found["response"], expected)
        assert "ncsnr" not in found
        core = nsd.voxels(1, ["V1", "IT"])["ncsnr"]
        np.testing.assert_array_equal(found["ncsnr_core"], core)
        assert found["is_valid"].dtype == bool

    def test_the_design_must_agree(self, damaged: Callable[..., Path]) -> None:
        def exchange(path: Path) -> None:
            text = path.read_text().splitlines()
            header = text[0].split("\t")
            column = header.index("CUE")
            lines = [line.split("\t") for line in text[1:]]
            first = next(line for line in lines if line[column] != lines[0][column])
            lines[0][column], first[column] = first[column], lines[0][column]
            path.write_text("\n".join(["\t".join(line) for line in [header, *lines]]) + "\n")

        root = damaged("nsdimagery_subj01_imgB_2.tsv", exchange)
        with pytest.raises(InputFileError, match="the trials of the run imgB_2 disagree"):
            rows_of_experiment(open_dataset(root), 1, "imagery")
        assert len(rows_of_experiment(open_dataset(root), 5, "imagery")) == 720

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (Path.unlink, MissingFilesError, r"which lists .* is missing: download"),
            (lambda path: path.write_text("TRIAL\n1\n"), InputFileError, "cannot be read"),
            (
                lambda path: path.write_text("TRIAL\tCONDITION\tCUE\n1\tH\tR\n"),
                InputFileError,
                "has 1 trials: expected the trials 1 to 48",
            ),
            (
                lambda path: path.write_text(path.read_text().replace("\tH\t", "\tQ\t")),
                InputFileError,
                "has the target 'Q' in trial",
            ),
        ],
    )
    def test_bad_trials(
        self,
        damaged: Callable[..., Path],
        change: Callable[[Path], None],
        error: type[Exception],
        message: str,
    ) -> None:
        root = damaged("nsdimagery_subj01_visA.tsv", change)
        with pytest.raises(error, match=message):
            rows_of_experiment(open_dataset(root), 1, "imagery")


class TestSynthetic:
    def test_each_row_is_what_the_design_says(self, root: Path, nsd: NSD) -> None:
        found = nsd.experiment("synthetic", 1, "V1")
        (path,) = root.rglob("nsdsynthetic_expdesign.mat")
        ordering = scipy.io.loadmat(path)["masterordering"].ravel().astype(int)
        assert found["image"].to_numpy().tolist() == (ordering - 1).tolist()
        times = np.bincount(ordering)[1:]
        assert (len(ordering), len(times)) == (744, 284)
        assert set(times) == {2, 4, 8, 10}
        assert found["run"].to_numpy().tolist() == [str(row // 93 + 1) for row in range(744)]
        table = pd.read_csv(path.with_name("nsdsyntheticimageinformation.csv"))
        classes = table.set_index("Image number")["Image class"].to_dict()
        assert found["image_class"].to_numpy().tolist() == [classes[one] for one in ordering]
        assert table["Image class"].nunique() == 8
        assert table["Image subclass"].nunique() == 71

    def test_pooled_ncsnr_against_its_definition(self, root: Path, nsd: NSD) -> None:
        found = nsd.experiment("synthetic", 5, "V1")
        image = found["image"].to_numpy()
        volume = stored(root, "synthetic", 5).astype(np.float64)
        times = np.bincount(image)
        for voxel in range(0, found.sizes["voxel"], 3):
            x, y, z = (int(found[f"voxel_{axis}"][voxel]) for axis in "xyz")
            values = volume[:, x, y, z]
            if (values == values[0]).all():
                assert np.isnan(found["ncsnr"][voxel])
                continue
            noise = sum(
                (times[one] - 1) * values[image == one].var(ddof=1) for one in range(284)
            ) / sum(times - 1)
            expected = np.sqrt(max(0, values.var(ddof=1) - noise)) / np.sqrt(noise)
            np.testing.assert_allclose(found["ncsnr"][voxel], expected, rtol=1e-5)
            share = sum(1 / times) / 284
            ceiling = 100 * expected**2 / (expected**2 + share)
            np.testing.assert_allclose(found["noise_ceiling"][voxel], ceiling, rtol=1e-5)

    def test_pooled_ncsnr_recovers_a_known_signal(self) -> None:
        rng = np.random.default_rng(1)
        image = rng.permutation(np.repeat(np.arange(284), np.tile([2, 2, 2, 4], 71)))
        signal = rng.normal(size=(300, 284))[:, image]
        values = np.rint(1000 * (0.7 * signal + rng.normal(size=signal.shape))).astype(np.int16)
        assert np.median(pooled_ncsnr(values, image)) == pytest.approx(0.7, abs=0.02)
        assert pooled_noise_ceiling(np.array([np.nan]), image).tolist() == [0]

    @pytest.mark.parametrize(
        ("name", "change", "error", "message"),
        [
            (
                "nsdsynthetic_expdesign.mat",
                Path.unlink,
                MissingFilesError,
                "is missing: download it",
            ),
            (
                "nsdsynthetic_expdesign.mat",
                lambda path: path.write_bytes(b"no"),
                InputFileError,
                "cannot be read",
            ),
            (
                "nsdsynthetic_expdesign.mat",
                lambda path: scipy.io.savemat(path, {"masterordering": [[1, 2, 3]]}),
                InputFileError,
                "has 3 trials of 3 images",
            ),
            (
                "nsdsyntheticimageinformation.csv",
                lambda path: path.write_text("Image,Image class,Image subclass\na,b,c\n"),
                InputFileError,
                "has 1 images: expected 284",
            ),
        ],
    )
    def test_bad_designs(
        self,
        damaged: Callable[..., Path],
        name: str,
        change: Callable[[Path], None],
        error: type[Exception],
        message: str,
    ) -> None:
        root = damaged(name, change)
        with pytest.raises(error, match=message):
            rows_of_experiment(open_dataset(root), 1, "synthetic")


@pytest.fixture(scope="module", params=["imagery", "synthetic"])
def parts(
    request: pytest.FixtureRequest, nsd: NSD
) -> tuple[str, np.ndarray, pd.DataFrame, np.ndarray]:
    """Return an experiment, its z-scores, its rows and the voxels' core ncsnr."""
    found = nsd.experiment(request.param, 1, ["V1", "IT"])
    names = ["run", "task", "target", "epoch"] if request.param == "imagery" else ["run", "image"]
    rows = pd.DataFrame({name: found[name].to_numpy() for name in names})
    return request.param, found["response"].to_numpy(), rows, found["ncsnr_core"].to_numpy()


@pytest.mark.parametrize(("experiment", "normalise"), [("imagery", "run"), ("synthetic", "none")])
def test_a_dataset_says_what_its_file_says(
    nsd: NSD, tmp_path: Path, experiment: str, normalise: str
) -> None:
    opened = nsd.experiment(experiment, 1, "V1", normalise=normalise)
    nsd.write_experiment(experiment, tmp_path, "V1", subjects=[1], normalise=normalise)
    with open_single_trials(tmp_path / f"subj01_{experiment}.nc") as written:
        assert opened.attrs["normalisation"] == normalise
        assert opened.attrs.keys() == written.attrs.keys()
        for name, value in opened.attrs.items():
            assert np.array_equal(written.attrs[name], value), name
        assert opened["response"].attrs == written["response"].attrs
        assert opened["response"].attrs["long_name"].startswith("response, in ")
        for name in written.coords:
            assert opened[name].attrs == written[name].attrs
            assert written[name].attrs["long_name"], name


class TestOneFolder:
    def test_a_table_of_somebody_stays(self, nsd: NSD, tmp_path: Path) -> None:
        (tmp_path / "subj01_imagery.csv").write_text("mine")
        with pytest.raises(ParameterError, match="is no table of the rows"):
            nsd.write_experiment("imagery", tmp_path, "V1", subjects=[1])
        assert (tmp_path / "subj01_imagery.csv").read_text() == "mine"
        assert not (tmp_path / "subj01_imagery.nc").exists()

    def test_files_of_another_format_belong_to_it_too(self, nsd: NSD, tmp_path: Path) -> None:
        options = {"subjects": [1], "regions": "V1"}
        nsd.write_experiment("imagery", tmp_path, normalise="run", format="zarr", **options)
        with pytest.raises(ParameterError, match=r"subj01_imagery\.zarr was .*normalisation"):
            nsd.write_experiment("imagery", tmp_path, normalise="session", **options)
        shutil.rmtree(tmp_path / "subj01_imagery.zarr")  # its table, which stays, is no obstacle
        nsd.write_experiment("imagery", tmp_path, normalise="session", **options)

    @pytest.mark.parametrize("differs", ["normalisation", "dataset", "design"])
    def test_files_of_subjects_belong_together(
        self,
        nsd: NSD,
        tmp_path: Path,
        damaged: Callable[[str, Callable[[Path], None]], Path],
        differs: str,
    ) -> None:
        nsd.write_experiment("imagery", tmp_path / "out", "V1", subjects=[1])
        other, options = nsd, {}
        if differs == "normalisation":
            options = {"normalise": "run"}
        elif differs == "dataset":
            root = damaged("dataset.json", _with_another_name)
            other = open_nsd(root, cache_dir=tmp_path / "cache")
        else:
            write_synthetic_nsd(
                tmp_path / "nsd", subjects=[5], seed=7, surfaces=False, experiments=["imagery"]
            )
            other = open_nsd(tmp_path / "nsd", cache_dir=tmp_path / "cache")
        with pytest.raises(ParameterError, match=f"subj01_imagery.nc was written.*{differs}"):
            other.write_experiment("imagery", tmp_path / "out", "V1", subjects=[5], **options)
        assert not list((tmp_path / "out").glob("subj05*"))


def _with_another_name(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "another"}))


class TestChecks:
    def test_sound_rows_pass(self, parts: tuple) -> None:
        experiment, responses, rows, ncsnr = parts
        verdicts = [
            one.verdict for one in check_experiment("subj01", experiment, responses, rows, ncsnr)
        ]
        assert verdicts == ["passed"] * (3 if experiment == "imagery" else 1)

    @pytest.mark.parametrize("seed", range(4))
    def test_an_exchanged_run_fails(self, parts: tuple, seed: int) -> None:
        experiment, responses, rows, ncsnr = parts
        first, second = ("visA", "visB") if experiment == "imagery" else (str(seed + 1), "7")
        one, other = (np.flatnonzero(rows["run"] == name) for name in (first, second))
        exchanged = responses.copy()
        exchanged[one], exchanged[other] = responses[other], responses[one]
        check, *_ = check_experiment("subj01", experiment, exchanged, rows, ncsnr)
        assert check.verdict == "failed"
        assert check.details["found"].startswith(f"at chance: {first}, {second};")

    def test_noise_decides_nothing(self, parts: tuple) -> None:
        experiment, responses, rows, ncsnr = parts
        for seed in range(5):
            noise = np.random.default_rng(seed).normal(size=responses.shape).astype(np.float32)
            for check in check_experiment("subj01", experiment, noise, rows, ncsnr):
                assert check.verdict == "not decidable"


class TestCommand:
    @pytest.mark.slow
    def test_a_file_a_subject(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], nsd: NSD
    ) -> None:
        words = ["trials", "--nsd-root", str(root), "--output-dir", str(tmp_path)]
        words += ["--regions", "V1", "IT", "--experiment"]
        assert main([*words, "imagery", "--normalise", "run", "--format", "zarr"]) == 0
        assert main([*words, "synthetic", "--dtype", "int16"]) == 0
        assert "Written: 5 files" in capsys.readouterr().out
        for name in ("subj01_imagery.zarr", "subj05_synthetic.nc"):
            with open_single_trials(tmp_path / name) as trials:
                experiment = trials.attrs["experiment"].removeprefix("NSD-")
                expected = nsd.experiment(
                    experiment,
                    int(trials.attrs["subject"]),
                    ["V1", "IT"],
                    normalise=trials.attrs["normalisation"],
                )
                np.testing.assert_allclose(trials["response"], expected["response"], atol=6e-4)
                np.testing.assert_array_equal(trials["run"], expected["run"])
            assert TrialReader(tmp_path / name).shape == expected["response"].shape
        checks = pd.read_csv(tmp_path / "checks_imagery.csv")
        assert len(checks) == 6
        assert len(pd.read_csv(tmp_path / "subj01_imagery.csv")) == 720

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["--experiment", "imagery", "--average"],
                "--average applies only to NSD's main experiment",
            ),
            (["--normalise", "run"], "--normalise run applies only to --experiment imagery"),
            (["--experiment", "imagery", "--normalise", "train-only"], "cannot be normalised by"),
            (["--experiment", "dreams"], "dreams"),
        ],
    )
    def test_what_does_not_fit(
        self,
        root: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
        message: str,
    ) -> None:
        command = ["trials", "--nsd-root", str(root), "--output-dir", str(tmp_path / "out")]
        assert main([*command, *words]) in (1, 2)
        assert message in " ".join(capsys.readouterr().err.split())
        assert not list(tmp_path.rglob("subj*"))

    def test_regions_that_a_subject_lacks_are_left_out_where_that_is_asked(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "own.toml"
        own.write_text('[faces]\nlabels.floc-faces = ["mTL-faces"]\n')  # subject 1 has none
        words = ["trials", "--nsd-root", str(root), "--output-dir", str(tmp_path / "out")]
        words += ["--experiment", "imagery", "--regions", "V1", "--regions-file", str(own)]
        assert main(words) == 1
        assert "use --missing-regions skip" in capsys.readouterr().err
        assert main([*words, "--missing-regions", "skip"]) == 0
        assert "Subject 1 has no voxel with the label 4 of floc-faces" in capsys.readouterr().err
        for subject, regions in ((1, {"in_V1"}), (5, {"in_V1", "in_faces"})):
            with open_single_trials(tmp_path / "out" / f"subj0{subject}_imagery.nc") as rows:
                assert {str(name) for name in rows.coords if str(name)[:3] == "in_"} == regions

    def test_a_root_without_imagery(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path / "out")]
        assert main(["trials", *words, "--experiment", "imagery"]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "has no NSD-imagery of subject 1: expected" in said
        assert not list(tmp_path.rglob("subj*"))
        assert main(["trials", "--experiment", "imagery"]) == 2


@pytest.mark.slow
def test_rows_of_other_options_are_not_replaced(nsd: NSD, tmp_path: Path) -> None:
    asked = {"subjects": [1], "normalise": "run"}
    nsd.write_experiment("imagery", tmp_path, ["V1", "IT"], **asked)
    nsd.write_experiment("imagery", tmp_path, ["V1", "IT", "V2"], **asked)
    before = (tmp_path / "subj01_imagery.nc").read_bytes()
    for regions, options, message in (
        (["V1", "IT", "V2"], {"normalise": "none"}, "normalisation: run there, none in this run"),
        (["V1"], {}, "regions there and not in this run: IT, V2"),
    ):
        with pytest.raises(ParameterError, match=message):
            nsd.write_experiment("imagery", tmp_path, regions, **(asked | options))
    assert (tmp_path / "subj01_imagery.nc").read_bytes() == before
    nsd.write_experiment("synthetic", tmp_path, ["V1"], subjects=[1])
    (tmp_path / "subj05_imagery.nc").write_text("mine")
    with pytest.raises(ParameterError, match="holds no rows of an experiment"):
        nsd.write_experiment("imagery", tmp_path, ["V1"], subjects=[5])
    assert (tmp_path / "subj05_imagery.nc").read_text() == "mine"


def test_checks_of_subjects_written_before_stay(nsd: NSD, tmp_path: Path) -> None:
    for subject in (5, 1, 5):
        nsd.write_experiment("synthetic", tmp_path / "each", ["V1"], subjects=[subject])
    nsd.write_experiment("synthetic", tmp_path / "both", ["V1"], subjects=[1, 5])
    each, both = (tmp_path / folder / "checks_synthetic.csv" for folder in ("each", "both"))
    assert each.read_bytes() == both.read_bytes()
    assert pd.read_csv(each)["subject"].tolist() == ["subj01", "subj05"]
    for content in (b"mine\n", b"", b"\xff\xfe\x00"):
        each.write_bytes(content)
        with pytest.raises(ParameterError, match=r"checks_synthetic.csv is not a table of checks"):
            nsd.write_experiment("synthetic", tmp_path / "each", ["V1"], subjects=[1])
        assert each.read_bytes() == content


def test_one_run_at_a_time_writes_rows_into_a_folder(nsd: NSD, tmp_path: Path) -> None:
    with only_run_in(tmp_path), pytest.raises(ParameterError, match="Another run is writing"):
        nsd.write_experiment("synthetic", tmp_path, ["V1"], subjects=[1])


def test_rows_of_another_space_are_not_replaced(
    on_surfaces: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    opened = {"cache_dir": tmp_path / "cache", "space": "fsaverage"}
    with_native = open_nsd(on_surfaces[0], surface_files="native", **opened)
    with_native.write_experiment("imagery", tmp_path / "out", ["nsdgeneral"], subjects=[1])
    for message, options in (
        ("surface_files: native there, mgh in this run", {"surface_files": "mgh"}),
        ("space: fsaverage there, nativesurface in this run", {"space": "nativesurface"}),
    ):
        other = open_nsd(on_surfaces[0], **(opened | options))
        with pytest.raises(ParameterError, match=message):
            other.write_experiment("imagery", tmp_path / "out", ["nsdgeneral"], subjects=[1])


def test_other_files_of_the_dataset_stay_as_they_are(root: Path, tmp_path: Path) -> None:
    write_synthetic_nsd(tmp_path / "nsd", subjects=[1, 5], surfaces=False)
    for path in (tmp_path / "nsd").rglob("*.*"):
        name = path.relative_to(tmp_path / "nsd")
        assert path.read_bytes() == (root / name).read_bytes()
    with pytest.raises(ParameterError, match="official layout alone"):
        write_synthetic_nsd(tmp_path / "flat", layout="flat", experiments=["imagery"])


@pytest.fixture(scope="module")
def on_surfaces(
    root: Path, tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, np.ndarray]]:
    """Return a dataset with NSD-imagery of subject 1 on surfaces, and its floats (720, V)."""
    import shutil

    copy = shutil.copytree(tiny_nsd, tmp_path_factory.mktemp("on-surfaces") / "nsd")
    for folder in ("nsddata/bdata", "nsddata/experiments/nsdimagery"):
        shutil.copytree(root / folder, copy / folder)
    betas = copy / "nsddata_betas/ppdata/subj01"
    rng = np.random.default_rng(2)
    floats = {}
    for side in ("lh", "rh"):
        index = counterparts(copy, side)
        own = betas / f"nativesurface/betas_fithrf_GLMdenoise_RR/{side}.betas_session01.hdf5"
        with h5py.File(own) as file:
            n_vertices = file["betas"].shape[1]
        floats[side] = rng.normal(0.4, 3, (720, n_vertices)).astype(np.float32)
        floats[side][:, index[:3]] = np.nan  # in no region, and in one or the other
        floats[side][:, index[np.arange(0, len(index), 7)]] = np.nan
        name = "nsdimagerybetas_fithrf_GLMdenoise_RR"
        for space in ("nativesurface", "fsaverage"):
            (betas / space / name).mkdir(exist_ok=True)
        with h5py.File(betas / f"nativesurface/{name}/{side}.betas_nsdimagery.hdf5", "w") as file:
            stored = np.nan_to_num(np.rint(300 * floats[side])).astype(np.int16)
            file.create_dataset("betas", data=stored, chunks=(720, 1))
        frames = floats[side][:, index].T[:, np.newaxis, np.newaxis]
        write_mgh(betas / f"fsaverage/{name}/{side}.betas_nsdimagery.mgh", frames)
    return copy, floats


def counterparts(root: Path, side: str) -> np.ndarray:
    """Return the subject's own vertex for each of fsaverage's, 0-based."""
    transform = root / f"nsddata/ppdata/subj01/transforms/{side}.white-to-fsaverage.mgz"
    return np.asarray(nibabel.load(transform).dataobj).ravel().astype(int) - 1


@pytest.mark.parametrize("normalise", ["run", "session", "none"])
@pytest.mark.parametrize(
    ("space", "files"), [("nativesurface", None), ("fsaverage", "native"), ("fsaverage", "mgh")]
)
def test_on_surfaces_against_plain_loops(
    on_surfaces: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    space: str,
    files: str | None,
    normalise: str,
) -> None:
    root, floats = on_surfaces
    nsd = open_nsd(root, cache_dir=tmp_path / "cache", space=space, surface_files=files)
    found = nsd.experiment("imagery", 1, "nsdgeneral", normalise=normalise)
    assert "is_valid" not in found
    assert found.attrs.get("surface_files") == files
    for side in ("lh", "rh"):
        columns = np.flatnonzero(found["hemisphere"] == side)
        vertex = found["vertex_index"].to_numpy()[columns]
        if space == "fsaverage":
            vertex = counterparts(root, side)[vertex]
        values = np.nan_to_num(floats[side][:, vertex]).astype(np.float64)
        assert space == "nativesurface" or (values == 0).all(axis=0).any()
        if files != "mgh":
            values = np.rint(300 * floats[side][:, vertex])
            values = np.nan_to_num(values) / (300 if normalise != "none" else np.float32(300))
        expected = values.copy()
        parts = list(BLOCKS.values()) if normalise == "run" else [(0, 720)]
        for first, last in parts if normalise != "none" else []:
            part = values[first:last]
            deviation = part.std(axis=0)
            expected[first:last] = (part - part.mean(axis=0)) / np.where(deviation, deviation, 1)
        np.testing.assert_allclose(
            found["response"][:, columns], expected.astype(np.float32), atol=3e-7, rtol=3e-7
        )


@pytest.mark.parametrize(("given", "there"), [("native", "mgh"), ("mgh", "native")])
def test_files_of_the_other_kind_are_named(
    on_surfaces: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, given: str, there: str
) -> None:
    import shutil

    space = "nativesurface" if given == "native" else "fsaverage"
    root = shutil.copytree(on_surfaces[0], tmp_path / "nsd")
    for folder in (root / "nsddata_betas/ppdata/subj01" / space).glob("nsdimagery*"):
        shutil.rmtree(folder)
    nsd = open_nsd(root, cache_dir=tmp_path / "c", space="fsaverage", surface_files=given)
    with pytest.raises(MissingFilesError, match=f"give surface_files='{there}', since there is"):
        nsd.experiment("imagery", 1, "nsdgeneral")


def test_on_surfaces_it_is_written_and_the_same_from_an_address(
    on_surfaces: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, _ = on_surfaces
    words = ["--experiment", "imagery", "--space", "fsaverage", "--surface-files", "mgh"]
    words += ["--subjects", "1", "--regions", "nsdgeneral"]
    with ServerProcess(root) as server:
        for name, source in (("local", str(root)), ("remote", server.url)):
            out = tmp_path / name
            asked = ["trials", "--nsd-root", source, "--output-dir", str(out), *words]
            assert main(asked) == 0, capsys.readouterr().err
    for name in ("subj01_imagery.nc", "subj01_imagery.csv", "checks_imagery.csv"):
        local, remote = (tmp_path / where / name for where in ("local", "remote"))
        if name.endswith(".nc"):
            with open_single_trials(local) as first, open_single_trials(remote) as second:
                assert first.drop_attrs().identical(second.drop_attrs())
        else:
            assert local.read_bytes() == remote.read_bytes()


def test_from_an_address_it_is_the_same(root: Path, nsd: NSD, tmp_path: Path) -> None:
    with ServerProcess(root) as server:
        remote = open_nsd(server.url, cache_dir=tmp_path)
        try:
            found = remote.experiment("imagery", 1, ["V1"])
            labels = remote.atlases()
        finally:
            remote.close()
    expected = nsd.experiment("imagery", 1, ["V1"])
    np.testing.assert_array_equal(found["response"], expected["response"])
    assert found["target"].to_numpy().tolist() == expected["target"].to_numpy().tolist()
    pd.testing.assert_frame_equal(labels, nsd.atlases())
