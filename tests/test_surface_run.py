"""Runs on surfaces, from files to assemblies, against an independent plain implementation."""

import io
import json
import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pandas as pd
import pytest
import reference
import surface_reference
import xarray as xr
from brainscore_inputs import write_stimuli
from library_stages import Watching, planned, whole_run
from range_server import RangeServer
from small_nsd import write_small_nsd
from small_surfaces import FSAVERAGE, NATIVE, SIDES, SmallSurfaces, write_small_surfaces
from surface_words import words_of_voxels

from nsd_prep import open_nsd
from nsd_prep.analysis.compare.compare import compare_assemblies
from nsd_prep.assemblies.assembly_file import read_assembly
from nsd_prep.assemblies.brainscore.index import PackageIndex
from nsd_prep.assemblies.brainscore.package import write_packages
from nsd_prep.assemblies.brainscore.plugin import write_plugin
from nsd_prep.assemblies.identifiers import (
    assembly_identifier,
    packaged_assembly_file,
    registry_prefix,
)
from nsd_prep.core.check_table import read_checks
from nsd_prep.core.errors import InputFileError, ParameterError, PreflightError
from nsd_prep.extraction.sessions import extract_sessions
from nsd_prep.extraction.store import Store
from nsd_prep.flows.command import main
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.single_trials import open_single_trials

SUBJECTS = [5, 1]
REGIONS = ["V1", "V2", "IT"]
#: Space, and files of fsaverage: what a run can read.
READ = [("fsaverage", "native"), ("fsaverage", "mgh"), ("nativesurface", None)]


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> SmallSurfaces:
    """Return a small dataset with volumes and surfaces; tests do not change it."""
    root = tmp_path_factory.mktemp("surfaces") / "nsd"
    written = write_small_surfaces(write_small_nsd(root))
    write_stimuli(root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5")
    return written


def nsd_ids_of(surfaces: SmallSurfaces, subjects: list[int]) -> list[int]:
    small = surfaces.small
    rows = [
        row
        for subject in subjects
        for row in reference.shared_trials(
            *reference.design(small.design_path),
            subject,
            small.sessions[subject],
            small.trials_per_session,
        )
    ]
    return reference.usable_images(rows, subjects)


@pytest.fixture(scope="module", params=READ, ids=["native", "mgh", "nativesurface"])
def finished(
    request: pytest.FixtureRequest,
    surfaces: SmallSurfaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, str | None, Path, Watching]:
    """Return space, files, output and what was shown of a run; its checks say that it is noise."""
    space, files = request.param
    out = tmp_path_factory.mktemp("finished") / "out"
    watching = whole_run(
        surfaces.root,
        out,
        space=space,
        surface_files=files,
        subjects=SUBJECTS,
        regions=REGIONS,
        report=False,
    )
    return space, files, out, watching


class TestAssemblies:
    def test_values_are_those_of_the_plain_computation(
        self, surfaces: SmallSurfaces, finished: tuple[str, str | None, Path, Watching]
    ) -> None:
        space, files, out, _ = finished
        nsd_ids = nsd_ids_of(surfaces, SUBJECTS)
        for region in REGIONS:
            expected = np.concatenate(
                [
                    surface_reference.averages(
                        surface_reference.responses(
                            surfaces, space, files or "native", subject, region, nsd_ids
                        )
                    )
                    for subject in SUBJECTS
                ],
                axis=1,
            )
            with xr.open_dataarray(out / f"Allen2022_surface.{region}.nc") as assembly:
                assert assembly.dtype == np.float32
                assert assembly["nsd_id"].values.tolist() == nsd_ids
                assert np.isnan(expected).any()
                np.testing.assert_array_equal(assembly.values, expected)

    def test_checks_speak_of_vertices_and_of_numbers_that_there_are(
        self, finished: tuple[str, str | None, Path, Watching]
    ) -> None:
        table = read_checks(finished[2] / "checks.csv")
        said = table[["value", "expectation", "meaning", "unit"]].agg(" ".join, axis="columns")
        assert not said[said.str.contains(r"\bnan\b|\binf\b")].tolist()
        assert not words_of_voxels(said)
        assert said.str.contains("vertices").any()

    def test_neuroids_say_where_they_lie(
        self, surfaces: SmallSurfaces, finished: tuple[str, str | None, Path, Watching]
    ) -> None:
        space, files, out, _ = finished
        with xr.open_dataarray(out / "Allen2022_surface.V1.nc") as assembly:
            assert list(assembly.coords) == [
                "stimulus_id",
                "nsd_id",
                "neuroid_id",
                "subject",
                "hemisphere",
                "vertex_index",
                "region",
                "nc_testset",
            ]
            assert assembly.attrs["space"] == space
            assert assembly.attrs.get("surface_files") == files
            ids, ceilings = [], []
            for subject in SUBJECTS:
                places = surface_reference.vertices(surfaces, space, subject, "V1")
                own = assembly["subject"].values == f"subj{subject:02d}"
                assert (
                    list(
                        zip(
                            assembly["hemisphere"].values[own],
                            assembly["vertex_index"].values[own].tolist(),
                            strict=True,
                        )
                    )
                    == places
                )
                for number, (side, vertex) in enumerate(places):
                    ids.append(f"subj{subject:02d}_{side}_V1_v{number:05d}")
                    at = SIDES.index(side)
                    if space == "fsaverage":
                        vertex = surfaces.index[subject, at][vertex]
                    squared = float(surfaces.ncsnr[subject, at][vertex]) ** 2
                    ceilings.append(100 * squared / (squared + 1 / 3))
            assert assembly["neuroid_id"].values.tolist() == ids
            assert np.isnan(ceilings).any()
            np.testing.assert_allclose(assembly["nc_testset"], ceilings, rtol=1e-12)

    def test_what_is_packaged_is_that_of_the_plain_computation(
        self, surfaces: SmallSurfaces, finished: tuple[str, str | None, Path, Watching]
    ) -> None:
        space, files, out, _ = finished
        nsd_ids = nsd_ids_of(surfaces, SUBJECTS)
        split = pd.read_csv(out / "train_test_split.csv")
        is_train = (split["split"] == "train").to_numpy()
        places = [(region, subject) for region in REGIONS for subject in SUBJECTS]
        rows = [
            surface_reference.packaged(
                surface_reference.responses(
                    surfaces, space, files or "native", subject, region, nsd_ids
                ),
                is_train,
            )
            for region, subject in places
        ]
        for half, expected in zip(("train", "test"), zip(*rows, strict=True), strict=True):
            path = out / "brainscore" / f"Allen2022_fmri_surface_{half}.nc"
            with xr.open_dataarray(path) as assembly:
                # Region by region, subjects within.
                named = list(
                    zip(assembly["region"].values, assembly["subject"].values, strict=True)
                )
                in_order = [(region, f"subj{subject:02d}") for region, subject in places]
                assert list(dict.fromkeys(named)) == in_order
                assert np.isfinite(assembly.values).all()
                values = np.concatenate(expected, axis=1)
                np.testing.assert_allclose(assembly.values[:, :, 0], values, atol=5e-5, rtol=0)

    def test_gaps_are_counted_and_said(
        self, finished: tuple[str, str | None, Path, Watching]
    ) -> None:
        _, _, out, watching = finished
        checks = pd.read_csv(out / "checks.csv")
        said = checks[(checks["name"] == "no NaN") & (checks["region"] == "V1")].iloc[0]
        with xr.open_dataarray(out / "Allen2022_surface.V1.nc") as assembly:
            n_gaps = int(np.isnan(assembly.values).sum())
        assert said["verdict"] == "passed"
        gaps = f"0, and {n_gaps} of vertices without data"
        assert said["value"] == f"values that are not finite: {gaps}"
        assert not [
            check
            for check in watching.checks
            if check.verdict == "failed" and check.name not in CHECKS_OF_SIGNAL
        ]

    def test_manifest_lists_every_file_that_was_read(
        self, surfaces: SmallSurfaces, finished: tuple[str, str | None, Path, Watching]
    ) -> None:
        space, files, out, _ = finished
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["dataset"]["space"] == space
        names = {item["path"] for item in manifest["inputs"]}
        for side in SIDES:
            native = str(surfaces.native_file(1, 1, side))
            assert (native in names) == (files != "mgh")
            assert (str(surfaces.mgh_file(1, 1, side)) in names) == (files == "mgh")
            transform = str(surfaces.transform(1, "white-to-fsaverage", side))
            assert (transform in names) == (files == "native")


@pytest.mark.slow
def test_reports_speak_of_vertices(surfaces: SmallSurfaces, tmp_path: Path) -> None:
    asked = {"space": "fsaverage", "subjects": [1], "regions": ["V1"], "brainscore": False}
    whole_run(surfaces.root, tmp_path, single_trials=True, **asked)
    names = set(read_checks(tmp_path / "checks.csv")["name"])
    for page in ("report/index.html", "trials/report/index.html"):
        said = re.findall(r">([^<]+)<", (tmp_path / page).read_text(encoding="utf-8"))
        assert any("vertices" in text for text in said)
        assert not {text.removeprefix("! ") for text in words_of_voxels(said)} - names


class TestPackages:
    def test_names_and_form_are_brainscores(
        self, finished: tuple[str, str | None, Path, Watching], tmp_path: Path
    ) -> None:
        space, _, out, _ = finished
        infix = {"fsaverage": "_surface", "nativesurface": "_nativesurface"}[space]
        index = write_packages(out / "brainscore", tmp_path, unchecked=True)
        identifiers = {(one.kind, one.split): one.identifier for one in index.files}
        assert identifiers["assembly", "train"] == f"small_fMRI{infix}_train_Assembly"
        # The stimulus sets are the volume's.
        assert identifiers["stimulus table", "test"] == "small_fMRI_test_Stimuli"
        assert index.registry_prefix == f"small_fmri{infix}"
        path = tmp_path / f"assy_small_fMRI{infix}_test_Assembly.nc"
        with xr.open_dataarray(path) as assembly:
            assert assembly.attrs["stimulus_set_identifier"] == "small_fMRI_test_Stimuli"
            assert "hemisphere" in assembly.coords
        assert PackageIndex.read(tmp_path) == index

    def test_plugin_registers_data_and_benchmarks_and_takes_the_volumes_stimuli(
        self, finished: tuple[str, str | None, Path, Watching], tmp_path: Path
    ) -> None:
        space, _, out, _ = finished
        infix = {"fsaverage": "_surface", "nativesurface": "_nativesurface"}[space]
        index = write_packages(out / "brainscore", tmp_path / "packages", unchecked=True)
        texts = {
            path.relative_to(tmp_path / "plugin").as_posix(): path.read_text()
            for path in write_plugin(index, tmp_path / "plugin")
        }
        data = texts[f"data/small_fmri{infix}/__init__.py"]
        assert f"data_registry['small_fmri{infix}_train']" in data
        assert "partial(load_stimulus_set, 'small_fmri_stim_train')" in data
        assert "stimulus_set_registry" not in data
        benchmarks = texts[f"benchmarks/small_fmri{infix}/__init__.py"]
        assert f"benchmark_registry['small_fmri{infix}.V1-ridge']" in benchmarks
        for text in texts.values():
            compile(text, "plugin", "exec")

    def test_identifiers_of_nsd_itself(self) -> None:
        four = ("subj01", "subj02", "subj05", "subj07")
        assert assembly_identifier("NSD", four, "train", "fsaverage") == (
            "Allen2022_fMRI_surface_4subj_train_Assembly"
        )
        assert registry_prefix("NSD", ("subj01",), "fsaverage") == "Allen2022_fmri_surface"
        assert packaged_assembly_file(Path("out"), "test", "_8subj", "fsaverage") == Path(
            "out/Allen2022_fmri_surface_test_8subj.nc"
        )


#: Checks that see that the small dataset is noise.
CHECKS_OF_SIGNAL = {
    "deviation as predicted",
    "mean near 0",
    "every reliable voxel has a ceiling",
    "sessions in their places",
}


def test_native_and_mgh_differ_by_the_rounding_of_integers_alone(
    surfaces: SmallSurfaces, tmp_path: Path
) -> None:
    found = []
    for files in ("native", "mgh"):
        out = tmp_path / files
        nsd = {"space": "fsaverage", "surface_files": files, "subjects": [1], "regions": ["IT"]}
        whole_run(surfaces.root, out, report=False, brainscore=False, **nsd)
        with xr.open_dataarray(out / "Allen2022_surface.IT.nc") as assembly:
            found.append(assembly.load())
    assert not np.array_equal(found[0], found[1], equal_nan=True)
    np.testing.assert_allclose(found[0], found[1], atol=5e-3)


class TestFiles:
    def test_files_that_are_there_are_read_where_none_are_chosen(
        self, surfaces: SmallSurfaces, tmp_path: Path
    ) -> None:
        for gone, read in (("fsaverage/*/*session*", "native"), ("nativesurface/*/*", "mgh")):
            root = tmp_path / read
            shutil.copytree(surfaces.root, root)
            for path in root.glob(f"nsddata_betas/ppdata/subj*/{gone}"):
                path.unlink()
            out = tmp_path / f"{read}-out"
            asked = {"space": "fsaverage", "subjects": [1], "regions": ["V1"]}
            whole_run(root, out, report=False, brainscore=False, **asked)
            with xr.open_dataarray(out / "Allen2022_surface.V1.nc") as assembly:
                assert assembly.attrs["surface_files"] == read

    def test_a_look_at_the_inputs_says_what_each_space_would_need(
        self, surfaces: SmallSurfaces, tmp_path: Path
    ) -> None:
        asked = {"subjects": [1], "check": True, "space": "nativesurface", "report": False}
        said = whole_run(surfaces.root, tmp_path / "out", **asked).inputs
        assert "nativesurface) at" in said
        assert (
            "Spaces that are there: func1pt8mm, fsaverage, nativesurface; func1mm would need "
            in (said)
        )

    def test_a_root_with_surfaces_alone_says_so_and_works(
        self, surfaces: SmallSurfaces, tmp_path: Path
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(
            surfaces.root, root, ignore=shutil.ignore_patterns("func1pt8mm", "nsddata_stimuli")
        )
        with pytest.raises(PreflightError, match="or choose fsaverage to read it"):
            whole_run(root, tmp_path / "volume", subjects=[1], regions=["V1"])
        asked = {"subjects": [1], "regions": ["V1"], "report": False, "brainscore": False}
        whole_run(root, tmp_path / "surface", space="fsaverage", **asked)
        assert (tmp_path / "surface" / "Allen2022_surface.V1.nc").is_file()

    @pytest.mark.parametrize(
        ("space", "damage", "message"),
        [
            ("fsaverage", "exchanged", "is no transform to the surface of the region labels"),
            ("nativesurface", "exchanged labels", "expected"),
            ("fsaverage", "no transform", "is missing"),
            ("fsaverage", "region", "those that fsaverage has, HCP_MMP1"),
        ],
    )
    def test_what_does_not_belong_together_is_found(
        self, surfaces: SmallSurfaces, tmp_path: Path, space: str, damage: str, message: str
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(surfaces.root, root)
        changed = SmallSurfaces(replace(surfaces.small, root=root))
        own = tmp_path / "own.toml"
        own.write_text("[FFA]\nlabels = { floc-faces = [2, 3] }\n")
        if damage == "exchanged":
            _exchange(*(changed.transform(1, "white-to-fsaverage", side) for side in SIDES))
        elif damage == "exchanged labels":
            _exchange(*(changed.label_file(1, "prf-visualrois", side) for side in SIDES))
        elif damage == "no transform":
            changed.transform(1, "white-to-fsaverage", "rh").unlink()
        asked = {"space": space, "surface_files": "native", "subjects": [1], "regions": ["V1"]}
        asked |= {"regions_file": own} if damage == "region" else {}
        with pytest.raises(PreflightError, match=message):
            whole_run(root, tmp_path / "out", **asked)

    def test_what_is_wrong_with_a_file_of_all_subjects_is_said_once(
        self, surfaces: SmallSurfaces, tmp_path: Path
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(surfaces.root, root)
        changed = SmallSurfaces(replace(surfaces.small, root=root))
        changed.label_file(0, "Kastner2015", "lh").write_bytes(b"no labels")
        with pytest.raises(PreflightError, match=r"lh\.Kastner2015\.mgz cannot be read") as error:
            whole_run(root, tmp_path / "out", space="fsaverage", regions=["V1"])
        assert len(error.value.problems) == 1

    def test_results_of_two_spaces_do_not_belong_into_one_folder(
        self, surfaces: SmallSurfaces, tmp_path: Path
    ) -> None:
        asked = {"subjects": [1], "regions": ["V1"], "report": False, "brainscore": False}
        whole_run(surfaces.root, tmp_path, space="fsaverage", **asked)
        for other in (
            {"space": "func1pt8mm"},
            {"space": "nativesurface"},
            {"space": "fsaverage", "surface_files": "mgh"},
        ):
            with pytest.raises(ParameterError, match="of another run with different options"):
                whole_run(surfaces.root, tmp_path, **asked, **other)

    def test_a_space_is_the_official_layouts(self, tmp_path: Path) -> None:
        small = write_small_nsd(tmp_path / "nsd", layout="flat")
        with pytest.raises(ParameterError, match="flat layout, which holds func1pt8mm alone"):
            open_nsd(small.root, space="fsaverage", cache_dir=tmp_path / "cache")


class TestInPython:
    @pytest.mark.parametrize(("space", "files"), READ)
    def test_responses_are_those_of_the_plain_computation(
        self, surfaces: SmallSurfaces, tmp_path: Path, space: str, files: str | None
    ) -> None:
        nsd = open_nsd(
            surfaces.root, space=space, surface_files=files, subjects=[1], cache_dir=tmp_path
        )
        responses = nsd.responses(1, "V1")
        expected = surface_reference.responses(
            surfaces, space, files or "native", 1, "V1", responses["nsd_id"].values.tolist()
        )
        np.testing.assert_array_equal(responses.values, expected)
        places = surface_reference.vertices(surfaces, space, 1, "V1")
        assert responses["hemisphere"].values.tolist() == [side for side, _ in places]
        assert responses["vertex_index"].values.tolist() == [vertex for _, vertex in places]

    def test_single_trials_are_z_scores_with_zeros_where_there_are_no_data(
        self, surfaces: SmallSurfaces, tmp_path: Path
    ) -> None:
        nsd = open_nsd(surfaces.root, space="fsaverage", subjects=[1], cache_dir=tmp_path)
        with nsd.single_trials(1, ["V1", "IT"]) as trials:
            expected = []
            v1 = surface_reference.vertices(surfaces, "fsaverage", 1, "V1")
            it = surface_reference.vertices(surfaces, "fsaverage", 1, "IT")
            places = sorted({*v1, *it})
            for session in range(1, surfaces.small.sessions[1] + 1):
                z = [
                    surface_reference.zscores(
                        surface_reference.session_betas(
                            surfaces, "fsaverage", "native", 1, session, side
                        )[:, [vertex for own, vertex in places if own == side]]
                    )
                    for side in SIDES
                ]
                expected.append(np.concatenate(z, axis=1))
            values = np.concatenate(expected)
            assert np.isnan(values).any()
            np.testing.assert_array_equal(trials["response"], np.nan_to_num(values, nan=0.0))
            found = zip(trials["hemisphere"].values, trials["vertex_index"].values, strict=True)
            assert [(side, int(vertex)) for side, vertex in found] == places
            assert trials["in_V1"].values.tolist() == [place in v1 for place in places]
            assert trials.attrs["space"] == "fsaverage"
            assert trials.attrs["vertices"].tolist() == [160, 150]

    @pytest.mark.slow
    def test_what_is_kept_of_a_region_serves_others_inside(
        self, surfaces: SmallSurfaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for files in ("native", "mgh"):
            asked = {
                "space": "fsaverage",
                "surface_files": files,
                "subjects": [1],
                "brainscore": False,
                "report": False,
                "cache_dir": tmp_path / f"cache-{files}",
            }
            whole_run(
                surfaces.root, tmp_path / f"{files}-1", regions=["IT"], keep_voxels="IT", **asked
            )
            with monkeypatch.context() as patched:
                patched.setattr("nsd_prep.dataset.betas.read_voxels", _refuse)
                out = tmp_path / f"{files}-2"
                whole_run(surfaces.root, out, regions=["ventral"], **asked)
            with xr.open_dataarray(out / "Allen2022_surface.ventral.nc") as assembly:
                nsd_ids = assembly["nsd_id"].values.tolist()
                expected = surface_reference.averages(
                    surface_reference.responses(surfaces, "fsaverage", files, 1, "IT", nsd_ids)
                )
                np.testing.assert_array_equal(assembly.values, expected)


def _exchange(first: Path, second: Path) -> None:
    """Give each of two files the content of the other."""
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _refuse(*_: object) -> np.ndarray:
    raise AssertionError("a session is read")


class TestFromAnAddress:
    @pytest.mark.slow
    @pytest.mark.parametrize(("space", "files"), READ)
    def test_the_same_values_as_from_a_folder(
        self, surfaces: SmallSurfaces, tmp_path: Path, space: str, files: str | None
    ) -> None:
        asked = {"space": space, "surface_files": files, "subjects": [1], "regions": ["V1", "IT"]}
        asked |= {"report": False, "brainscore": False}
        with RangeServer(surfaces.root) as server:
            watching = whole_run(server.url, tmp_path / "remote", **asked)
            betas = "fsaverage" if files == "mgh" else "nativesurface"
            other = "nativesurface" if files == "mgh" else "fsaverage"
            fetched = [path for method, path in server.requested if method == "GET"]
            assert any(f"{betas}/" in path and "betas_session" in path for path in fetched)
            assert not any(f"{other}/" in path and "betas_session" in path for path in fetched)
        assert "To fetch" in watching.inputs
        whole_run(surfaces.root, tmp_path / "local", **asked)
        for region in ("V1", "IT"):
            name = f"Allen2022_surface.{region}.nc"
            assert (tmp_path / "remote" / name).read_bytes() == (
                tmp_path / "local" / name
            ).read_bytes()


def test_the_volume_of_1_mm_is_another_folder_in_the_same_form(
    surfaces: SmallSurfaces, tmp_path: Path
) -> None:
    root = tmp_path / "nsd"
    shutil.copytree(surfaces.root, root)
    for folder in sorted(root.rglob("func1pt8mm")):
        folder.rename(folder.with_name("func1mm"))
    asked = {"subjects": [1], "regions": ["V1"], "report": False}
    whole_run(root, tmp_path / "1mm", space="func1mm", **asked)
    whole_run(surfaces.root, tmp_path / "1pt8mm", **asked)
    with (
        xr.open_dataarray(tmp_path / "1mm" / "Allen2022.V1.nc") as finer,
        xr.open_dataarray(tmp_path / "1pt8mm" / "Allen2022.V1.nc") as usual,
    ):
        assert finer.drop_attrs().identical(usual.drop_attrs())
        assert finer.attrs == usual.attrs | {"space": "func1mm"}
    index = write_packages(tmp_path / "1mm" / "brainscore", tmp_path / "packages", unchecked=True)
    assert index.registry_prefix == "small_fmri_func1mm"


class TestComparison:
    def test_neuroids_that_were_counted_from_1_or_exchanged_are_named(
        self, finished: tuple[str, str | None, Path, Watching]
    ) -> None:
        _, _, out, _ = finished
        assembly = read_assembly(out / "Allen2022_surface.IT.nc")
        same = compare_assemblies("same", assembly, assembly.copy())
        assert same.equal
        shifted = assembly.assign_coords(
            vertex_index=("neuroid", assembly["vertex_index"].to_numpy() + 1)
        )
        other_side = np.where(assembly["hemisphere"] == "lh", "rh", "lh")
        exchanged = assembly.assign_coords(hemisphere=("neuroid", other_side))
        for changed, reason in (
            (shifted, "counted from 1"),
            (exchanged, "left and right hemisphere are exchanged"),
        ):
            found = compare_assemblies("changed", assembly, changed)
            assert not found.equal
            reasons = list(found.reasons)
            assert any(reason in one for one in reasons), reasons

    def test_a_volume_and_a_surface_are_not_compared(
        self,
        surfaces: SmallSurfaces,
        tmp_path: Path,
        finished: tuple[str, str | None, Path, Watching],
    ) -> None:
        out = finished[2]
        whole_run(surfaces.root, tmp_path, subjects=[1], regions=["V1"], report=False)
        of_volume = read_assembly(tmp_path / "Allen2022.V1.nc")
        on_surface = read_assembly(out / "Allen2022_surface.V1.nc")
        with pytest.raises(InputFileError, match=r"both in one space; .* the same space="):
            compare_assemblies("V1", of_volume, on_surface)


@pytest.mark.parametrize("form", ["netcdf", "zarr"])
@pytest.mark.parametrize(("space", "files"), READ)
def test_single_trials_in_every_form_of_storage(
    surfaces: SmallSurfaces, tmp_path: Path, space: str, files: str | None, form: str
) -> None:
    asked = {"space": space, "surface_files": files, "subjects": [5], "regions": ["V1"]}
    whole_run(
        surfaces.root,
        tmp_path,
        assemblies=False,
        single_trials=True,
        format=form,
        report=False,
        **asked,
    )
    places = surface_reference.vertices(surfaces, space, 5, "V1")
    expected = []
    for session in range(1, surfaces.small.sessions[5] + 1):
        z = [
            surface_reference.zscores(
                surface_reference.session_betas(
                    surfaces, space, files or "native", 5, session, side
                )[:, [vertex for own, vertex in places if own == side]]
            )
            for side in SIDES
        ]
        expected.append(np.concatenate(z, axis=1))
    path = tmp_path / f"subj05.{'nc' if form == 'netcdf' else 'zarr'}"
    with open_single_trials(path) as trials:
        np.testing.assert_array_equal(
            trials["response"], np.nan_to_num(np.concatenate(expected), nan=0.0)
        )
        assert trials["hemisphere"].values.tolist() == [side for side, _ in places]
        assert trials.attrs["space"] == space
        assert trials.attrs.get("surface_files") == files


def test_all_sessions_are_extracted_by_processes_too(
    surfaces: SmallSurfaces, tmp_path: Path
) -> None:
    """What is sent to another process: files of both hemispheres, and the index of each."""
    run = planned(surfaces.root, tmp_path, space="fsaverage", surface_files="native", subjects=[1])
    requests = load_inputs(run).requests(Store(path=tmp_path / "store"))
    copied = pickle.loads(pickle.dumps(requests))
    assert [one.files for one in copied] == [one.files for one in requests]
    assert [one.digest for one in copied] == [one.digest for one in requests]
    (record,) = extract_sessions(copied[:1])
    assert requests[0].accepts(record)
    assert type(record).model_validate_json(record.model_dump_json()) == record
    assert len(record.betas) == 2


class TestCommands:
    def test_regions_of_a_space(
        self, surfaces: SmallSurfaces, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = [str(surfaces.root), "--space", "fsaverage", "--subjects", "1", "--format", "csv"]
        assert main(["regions", *asked]) == 0
        table = pd.read_csv(io.StringIO(capsys.readouterr().out))
        assert set(table["atlas"]) == {"Kastner2015", "streams", "nsdgeneral"}
        row = table[(table["atlas"] == "streams") & (table["label"] == 5)].iloc[0]
        counts = [int((surfaces.labels[0, "streams", side] == 5).sum()) for side in (0, 1)]
        assert [row["lh"], row["rh"], row["sites"]] == [*counts, sum(counts)]

    def test_algonauts_files_come_from_fsaverage_without_being_told(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        asked = ["--like", "algonauts2023", "--subjects", "1", "--cache-dir", str(tmp_path / "c")]
        assert main(["export", str(tiny_nsd), str(tmp_path / "algonauts"), *asked]) == 0
        responses = list((tmp_path / "algonauts").rglob("lh_training_fmri.npy"))
        assert len(responses) == 1
        assert np.isfinite(np.load(responses[0])).all()


class TestAgain:
    ASKED: ClassVar = {"subjects": [1], "regions": ["V1"], "report": False, "brainscore": False}

    @pytest.mark.parametrize(("space", "files"), READ)
    def test_the_same_again_reads_no_session_and_gives_the_same_bytes(
        self,
        surfaces: SmallSurfaces,
        tmp_path: Path,
        space: str,
        files: str | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked = self.ASKED | {"space": space, "surface_files": files}
        whole_run(surfaces.root, tmp_path / "out", cache_dir=tmp_path / "cache", **asked)
        monkeypatch.setattr("nsd_prep.dataset.betas.read_voxels", _refuse)
        whole_run(surfaces.root, tmp_path / "again", cache_dir=tmp_path / "cache", **asked)
        name = "Allen2022_surface.V1.nc"
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()

    @pytest.mark.parametrize("side", SIDES)
    def test_a_hemispheres_file_that_was_replaced_is_read_again(
        self, surfaces: SmallSurfaces, tmp_path: Path, side: str
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(surfaces.root, root)
        changed = SmallSurfaces(replace(surfaces.small, root=root))
        asked = self.ASKED | {"space": "nativesurface", "cache_dir": tmp_path / "cache"}
        whole_run(root, tmp_path / "out", **asked)
        path = changed.native_file(1, 1, side)
        status = path.stat()
        with h5py.File(path, "a") as file:
            file["betas"][:] = np.roll(file["betas"][:], 5, axis=0)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        whole_run(root, tmp_path / "again", **asked)
        nsd_ids = nsd_ids_of(changed, [1])
        expected = surface_reference.averages(
            surface_reference.responses(changed, "nativesurface", "native", 1, "V1", nsd_ids)
        )
        with (
            xr.open_dataarray(tmp_path / "again" / "Allen2022_surface.V1.nc") as again,
            xr.open_dataarray(tmp_path / "out" / "Allen2022_surface.V1.nc") as before,
        ):
            np.testing.assert_array_equal(again, expected)
            other = (again != before).any("presentation").to_numpy()
            own = (again["hemisphere"] == side).to_numpy()
            finite = np.isfinite(expected).all(axis=0)
            assert other[own & finite].mean() > 0.9  # but for a vertex that is constant
            assert not other[~own & finite].any()


@pytest.mark.parametrize(("space", "subject"), [("fsaverage", 0), ("nativesurface", 1)])
def test_regions_of_ones_own_by_number_or_name_in_a_hemisphere(
    surfaces: SmallSurfaces, tmp_path: Path, space: str, subject: int
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[mine]\nhemisphere = "rh"\nlabels = { streams = ["streams-5", 2], nsdgeneral = [1] }\n'
    )
    opened = {"regions_file": own, "subjects": [1], "cache_dir": tmp_path / "cache"}
    nsd = open_nsd(surfaces.root, space=space, **opened)
    vertices = nsd.voxels(1, "mine")
    expected = np.isin(surfaces.labels[subject, "streams", 1], (2, 5))
    expected |= surfaces.labels[subject, "nsdgeneral", 1] == 1
    assert set(vertices["hemisphere"].values) == {"rh"}
    assert vertices["vertex_index"].values.tolist() == np.flatnonzero(expected).tolist()
    assert vertices.attrs["vertices"] == list(FSAVERAGE if subject == 0 else NATIVE[1])
