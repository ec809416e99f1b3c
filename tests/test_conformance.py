"""Brain-Score's own code, in an environment of its own, takes the packages as they are.

The data are a synthetic NSD, brought all the way through the library. Brain-Score runs offline,
with the packages in its local cache.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brainscore_inputs import fill_local_cache, simulate, write_packages_of, write_stimuli
from library_stages import responses_of, trials_of
from scipy.stats import spearmanr
from synthetic_truth import region_rows

from nsd_prep.assemblies.assembly import SubjectVoxels, voxel_table
from nsd_prep.assemblies.train_test import TrainAndTest, build_train_and_test
from nsd_prep.checks.train_test import internal_consistency
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.published import VOXEL_COUNTS
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.dataset.space import SurfaceSpace
from nsd_prep.dataset.splits import train_images
from nsd_prep.dataset.trials import usable_images
from nsd_prep.sources.opening import open_dataset
from nsd_prep.synthetic import SubjectPlan, SyntheticPlan, SyntheticTruth, write_synthetic_nsd
from nsd_prep.synthetic.latents import dimension_weights

pytestmark = pytest.mark.conformance

HERE = Path(__file__).parent / "conformance"
REGIONS = tuple(VOXEL_COUNTS)
# Few voxels, as Brain-Score correlates them one by one, and a strong signal in them.
N_VOXELS = {"V1": 46, "V2": 42, "V3": 8, "V4": 40, "IT": 64, "other": 5}
CEILINGS = {"V1": 85.0, "V2": 82.0, "V3": 80.0, "V4": 80.0, "IT": 78.0, "other": 60.0}
#: 500 images that every subject sees three times, 400 of them for train.
PLAN = SyntheticPlan(
    name="synthetic-conformance",
    trials_per_session=260,
    images_per_subject=520,
    subjects={
        subject: SubjectPlan(grid, 6, N_VOXELS, CEILINGS)
        for subject, grid in {
            1: (16, 21, 17),
            2: (17, 22, 18),
            5: (15, 20, 16),
            7: (18, 21, 16),
        }.items()
    },
    shared_repetitions={(3,): 500},
    image_size=(8, 8),
)
VARIANTS = {"Allen2022_fmri": (1, 2, 5), "Allen2022_fmri_4subj": (1, 2, 5, 7)}


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with exactly what requirements.txt names.

    ``NSD_PREP_CONFORMANCE_ENVIRONMENT`` names a folder in which it is kept between runs.
    """
    requirements = HERE / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    kept = os.environ.get("NSD_PREP_CONFORMANCE_ENVIRONMENT")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("environment") / "brainscore"
    complete = folder / "requirements.sha256"
    if not complete.is_file() or complete.read_text() != digest:
        python = shutil.which("python3.11")
        assert python, "Brain-Score's pins need Python 3.11: put python3.11 on the PATH"
        shutil.rmtree(folder, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--python", python, str(folder)], check=True)
        # Everything is listed: brainscore-vision would bring torch and much else. The project's own
        # constraints, which CI sets, contradict Brain-Score's pins.
        settings = {name: value for name, value in os.environ.items() if name != "UV_CONSTRAINT"}
        install = [*uv, "pip", "install", "-q", "--python", str(folder), "--no-deps"]
        subprocess.run([*install, "-r", str(requirements)], check=True, env=settings)
        complete.write_text(digest)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SyntheticTruth]:
    root = tmp_path_factory.mktemp("conformance") / "nsd"
    return root, write_synthetic_nsd(root, scale=PLAN, seed=3)


@pytest.fixture(scope="session", params=list(VARIANTS))
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def built(
    dataset: tuple[Path, SyntheticTruth],
    prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> TrainAndTest:
    """Return train and test assemblies, from the betas on."""
    root, truth = dataset
    opened = open_dataset(root)
    subjects = VARIANTS[prefix]
    nsd_ids = usable_images(
        pd.concat([trials_of(opened, subject) for subject in subjects]), subjects
    )
    definitions = {region: BUILT_IN_REGIONS[region] for region in REGIONS}
    store = tmp_path_factory.mktemp("store")
    of_subject = {s: responses_of(opened, s, definitions, list(nsd_ids), store) for s in subjects}
    selected = {s: select_voxels(opened, s, definitions) for s in subjects}

    def voxels(subject: int, region: str) -> SubjectVoxels:
        rows = region_rows(truth.subjects[subject], region)
        selection = selected[subject]
        ncsnr = truth.subjects[subject].ncsnr[rows]
        return SubjectVoxels(
            subject,
            selection.space,
            selection.regions[region],
            ncsnr,
            noise_ceiling(ncsnr),
            np.zeros(len(rows), dtype=np.int64),
        )

    tables = [voxel_table(region, [voxels(s, region) for s in subjects]) for region in REGIONS]
    return build_train_and_test(
        lambda subject, region: of_subject[subject][region],
        pd.concat(tables, ignore_index=True),
        nsd_ids,
        train_images(len(nsd_ids)),
        attributes={"dataset": "NSD"},  # the published benchmarks know these identifiers alone
    )


def model_features(
    truth: SyntheticTruth, subjects: tuple[int, ...], nsd_ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the synthetic latents, each scaled to its share of the region's signal, and noise."""
    own = []
    for subject in subjects:
        images = truth.design.subjectim[subject - 1].astype(np.int64) - 1
        place = [int(np.flatnonzero(images == nsd_id)[0]) for nsd_id in nsd_ids]
        own.append(truth.subjects[subject].own_latents[place])
    latents = np.hstack([truth.shared_latents[nsd_ids], *own])
    arrays = {"nsd_ids": nsd_ids}
    generator = np.random.default_rng(9)
    for region in REGIONS:
        shared, of_own = np.split(dimension_weights(region), 2)
        weights = np.concatenate([shared, *[of_own / len(subjects)] * len(subjects)])
        arrays[f"latents {region}"] = latents * np.sqrt(weights)
        arrays[f"random {region}"] = generator.standard_normal(latents.shape)
    return arrays


def images_of(built: TrainAndTest) -> np.ndarray:
    """Return the nsd ids of train and test images, ascending."""
    return np.unique(np.concatenate([one["nsd_id"].to_numpy() for one in built]))


def run_in(
    environment: Path, folder: Path, script: str, arguments: list[str]
) -> "subprocess.CompletedProcess[str]":
    """Run a script of this folder in Brain-Score's environment, with a folder's cache."""
    return subprocess.run(
        [str(environment), str(HERE / script), *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "BRAINIO_HOME": str(folder / "cache"),
            "BRAINSCORE_HOME": str(folder / "brainscore"),
            "RESULTCACHING_HOME": str(folder / "results"),
            "RESULTCACHING_DISABLE": "1",
            "BS_INSTALL_DEPENDENCIES": "no",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def found(
    environment: Path,
    dataset: tuple[Path, SyntheticTruth],
    prefix: str,
    built: TrainAndTest,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """Return what Brain-Score finds in the packages."""
    folder = tmp_path_factory.mktemp(prefix)
    root, truth = dataset
    write_packages_of(built, open_dataset(root).images_file, folder)
    features = model_features(truth, VARIANTS[prefix], images_of(built))
    np.savez(folder / "features.npz", **features)
    arguments = ["packages", "plugin", "features.npz", "found.json"]
    done = run_in(environment, folder, "run_brainscore.py", arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads((folder / "found.json").read_text()))


class TestLoading:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_form(
        self, found: dict[str, Any], built: TrainAndTest, prefix: str, split: str
    ) -> None:
        item, ours = found[split], getattr(built, split)
        infix = "_4subj" if prefix.endswith("_4subj") else ""
        assert item["class"] == "NeuroidAssembly"
        assert item["dims"] == ["presentation", "neuroid", "time_bin"]
        assert (
            item["shape"]
            == list(ours.shape)
            == [400 if split == "train" else 300, *item["shape"][1:]]
        )
        assert item["dtype"] == "float32"
        # Brain-Score adds the columns of the stimulus set; they are one for each image.
        extra = ["repetition"] if split == "test" else []
        assert set(item["presentation"]) == {"stimulus_id", "nsd_id", "filename", *extra}
        assert set(item["neuroid"]) == {
            "neuroid_id",
            "subject",
            "region",
            "nc_testset",
            "voxel_x",
            "voxel_y",
            "voxel_z",
        }
        assert item["time_bin"] == [[70, 170]]
        assert item["identifier"] == f"Allen2022_fMRI{infix}_{split}_Assembly"
        assert item["stimulus_set_identifier"] == f"Allen2022_fMRI{infix}_{split}_Stimuli"
        assert item["neuroid_id"] == ours["neuroid_id"].to_numpy().tolist()
        assert item["stimulus_id"] == ours["stimulus_id"].to_numpy().tolist()
        assert item["stimulus_set"] == list(dict.fromkeys(item["stimulus_id"]))
        assert item["zscore_images"] == "all"
        assert item["nan"] == 0

    def test_plugin_is_found_by_its_registrations(self, found: dict[str, Any], prefix: str) -> None:
        assert set(found["located"].values()) == {prefix.lower()}


@pytest.mark.parametrize("region", REGIONS)
class TestRegions:
    def test_reliable_neuroids_are_those_above_30_percent(
        self, found: dict[str, Any], built: TrainAndTest, region: str
    ) -> None:
        test = built.test
        expected = (test["nc_testset"] > 30) & (test["region"] == region)
        ids = test["neuroid_id"].to_numpy()[expected.to_numpy()].tolist()
        assert found["regions"][region]["reliable"] == ids
        assert len(ids) > 0

    def test_repetitions_are_averaged(self, found: dict[str, Any], region: str) -> None:
        item = found["regions"][region]
        assert item["averaged_shape"] == [100, len(item["reliable"])]
        assert item["difference"] < 1e-5

    def test_internal_consistency_is_the_split_half_reliability(
        self, found: dict[str, Any], built: TrainAndTest, prefix: str, region: str
    ) -> None:
        columns = np.isin(built.test["neuroid_id"].to_numpy(), found["regions"][region]["reliable"])
        trials = built.test.to_numpy()[:, columns, 0].reshape(100, 3, -1).astype(np.float64)
        medians = []
        for alone in range(3):
            rest = trials[:, [r for r in range(3) if r != alone]].mean(axis=1)
            pairs = zip(trials[:, alone].T, rest.T, strict=True)
            r = np.array([np.corrcoef(one, two)[0, 1] for one, two in pairs])
            medians.append(np.median(2 * r / (1 + r)))
        # Brain-Score draws its halves; they are of these three kinds.
        item = found["published_benchmarks"][f"{prefix}.{region}-ridge"]
        assert min(medians) - 1e-6 <= item["ceiling"] <= max(medians) + 1e-6
        assert item["NaN in ceiling"] == 0

    def test_latents_score_near_the_ceiling_and_random_features_near_zero(
        self, found: dict[str, Any], prefix: str, region: str
    ) -> None:
        # RDMs of some fifty voxels are noisier than the latents of which they are samples.
        for metric, near in (("ridge", 0.85), ("rdm", 0.7)):
            scores = found["published_benchmarks"][f"{prefix}.{region}-{metric}"]
            assert np.isfinite(list(scores.values())).all()
            assert 0 < scores["ceiling"] <= 1
            assert near < scores["latents"] < 1.1
            assert abs(scores["random"]) < 0.05

    def test_rdm_score_is_that_of_plain_correlations(
        self,
        found: dict[str, Any],
        built: TrainAndTest,
        dataset: tuple[Path, SyntheticTruth],
        prefix: str,
        region: str,
    ) -> None:
        reliable = np.isin(
            built.test["neuroid_id"].to_numpy(), found["regions"][region]["reliable"]
        )
        train, test = (one.to_numpy()[:, reliable, 0].astype(np.float64) for one in built)
        rows = np.vstack([train, test.reshape(100, 3, -1).mean(axis=1)])
        nsd_ids = np.concatenate([built.train["nsd_id"], built.test["nsd_id"][::3]])
        pairs = np.triu_indices(len(rows), k=1)

        def dissimilarities(values: np.ndarray) -> np.ndarray:
            return 1 - np.corrcoef(values)[pairs]

        names = built.test["subject"].to_numpy()[reliable]
        rdms = [dissimilarities(rows[:, names == subject]) for subject in np.unique(names)]
        features = model_features(dataset[1], VARIANTS[prefix], images_of(built))
        order = np.searchsorted(features["nsd_ids"], nsd_ids)
        of_model = dissimilarities(features[f"latents {region}"][order])
        raw = np.mean([spearmanr(of_model, rdm).statistic for rdm in rdms])
        ceiling = np.mean([spearmanr(rdm, np.mean(rdms, axis=0)).statistic for rdm in rdms])
        scores = found["published_benchmarks"][f"{prefix}.{region}-rdm"]
        assert scores["ceiling"] == pytest.approx(ceiling, abs=1e-4)
        assert scores["latents"] == pytest.approx(raw / ceiling, abs=1e-4)


def test_plugin_s_benchmarks_score_as_the_published_ones(
    found: dict[str, Any], prefix: str
) -> None:
    published, packaged = found["published_benchmarks"], found["packaged_benchmarks"]
    assert set(published) == {f"{prefix}.{r}-{m}" for r in REGIONS for m in ("ridge", "rdm")}
    assert set(packaged) == {f"{prefix}.{r}-rdm" for r in REGIONS} | {f"{prefix}.V4-ridge"}
    for identifier, scores in packaged.items():
        assert scores["latents"] == pytest.approx(published[identifier]["latents"], abs=0.02)


def test_where_the_ceiling_is_nan_is_where_the_check_finds_it(found: dict[str, Any]) -> None:
    damaged = found["damaged"]
    ours = np.isnan(internal_consistency(np.array(damaged["trials"], dtype=np.float32)))
    assert ours.any(axis=0).tolist() == damaged["NaN"]
    assert damaged["NaN"][:6] == [True, True, True, True, False, False]
    assert np.isnan(damaged["as the benchmark takes it"])


def test_surfaces_load_and_can_be_scored(environment: Path, tmp_path: Path) -> None:
    """Brain-Score's second variant, of which the stimulus sets are the volume's."""
    options: dict[str, Any] = {"subjects": (1, 2, 5), "n_images": 120, "n_voxels": 14}
    options |= {"ncsnr": (1.0, 2.0)}
    write_stimuli(tmp_path / "stimuli.hdf5")
    simulations = {
        "volume": simulate(**options),
        "surface": simulate(**options, space=SurfaceSpace((20_000, 20_000))),
    }
    for name, simulation in simulations.items():
        write_packages_of(simulation.build(), tmp_path / "stimuli.hdf5", tmp_path / name)
        fill_local_cache(tmp_path / name / "packages", tmp_path / "cache")
    surface = simulations["surface"]
    np.savez(tmp_path / "features.npz", nsd_ids=surface.nsd_ids, latents=surface.latents)
    arguments = ["volume", "surface", "features.npz", "found.json"]
    done = run_in(environment, tmp_path, "run_surface.py", arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    built = surface.build()
    assert found["located"] == ["allen2022_fmri_surface"] * 2
    for split in ("train", "test"):
        item, ours = found[split], getattr(built, split)
        assert item["shape"] == list(ours.shape)
        assert set(item["neuroid"]) == {
            "neuroid_id",
            "subject",
            "hemisphere",
            "vertex_index",
            "region",
            "nc_testset",
        }
        assert item["identifier"] == f"Allen2022_fMRI_surface_{split}_Assembly"
        assert item["stimulus_set_identifier"] == f"Allen2022_fMRI_{split}_Stimuli"
        assert item["neuroid_id"] == ours["neuroid_id"].to_numpy().tolist()
        assert item["stimulus_set"] == list(dict.fromkeys(item["stimulus_id"]))
        assert item["nan"] == 0
    for item in found["regions"].values():
        assert item["reliable"]
        assert item["difference"] < 1e-5
    packaged, published = found["packaged_benchmarks"], found["published_benchmarks"]
    assert len(packaged) == len(published) == 5
    for identifier, item in packaged.items():
        assert 0 < item["ceiling"] <= 1
        assert item["latents"] > 0.3
        assert item["latents"] == pytest.approx(published[identifier]["latents"], abs=0.05)
