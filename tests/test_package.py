"""Packages have Brain-Score's names and form, and the same bytes wherever they are made."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import pytest
from blake3 import blake3
from brainscore_inputs import simulate, write_manifest, write_run
from earlier_versions import state_sha256_in_manifest

from nsd_prep.assemblies.assembly_file import read_assembly, write_assembly
from nsd_prep.assemblies.brainscore.index import PackageIndex, is_whole, sha1_of_file
from nsd_prep.assemblies.brainscore.package import package_output, write_packages
from nsd_prep.assemblies.brainscore.plugin import write_plugin
from nsd_prep.core.errors import InputFileError, MissingFilesError, OutputError
from nsd_prep.flows.command import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), simulate())


@pytest.fixture(scope="module")
def packages(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packages")
    write_packages(run, target)
    return target


class TestFiles:
    def test_names(self, packages: Path) -> None:
        assert sorted(path.name for path in packages.iterdir()) == [
            "assy_Allen2022_fMRI_test_Assembly.nc",
            "assy_Allen2022_fMRI_train_Assembly.nc",
            "index.json",
            "stimulus_Allen2022_fMRI_test_Stimuli.csv",
            "stimulus_Allen2022_fMRI_test_Stimuli.zip",
            "stimulus_Allen2022_fMRI_train_Stimuli.csv",
            "stimulus_Allen2022_fMRI_train_Stimuli.zip",
        ]

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_assembly_is_one_compressed_variable_named_data(
        self, packages: Path, run: Path, split: str
    ) -> None:
        path = packages / f"assy_Allen2022_fMRI_{split}_Assembly.nc"
        with netCDF4.Dataset(path) as file:
            assert not file.groups
            variable = file.variables["data"]
            assert variable.filters()["zlib"]
            assert variable.dimensions == ("presentation", "neuroid", "time_bin")
            assert not set(file.variables) & {"presentation", "neuroid", "time_bin"}
            others = [name for name in file.variables if len(file[name].dimensions) != 1]
            assert others == ["data"]
        packaged = read_assembly(path)
        original = read_assembly(run / f"Allen2022_fmri_{split}.nc")
        assert packaged.drop_attrs().identical(original.drop_attrs())
        assert packaged.attrs == {
            **original.attrs,
            "stimulus_set_identifier": f"Allen2022_fMRI_{split}_Stimuli",
        }

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_stimulus_table_and_zip(self, packages: Path, run: Path, split: str) -> None:
        table = pd.read_csv(packages / f"stimulus_Allen2022_fMRI_{split}_Stimuli.csv")
        assert table.columns.tolist() == ["stimulus_id", "nsd_id", "filename"]
        assembly = read_assembly(run / f"Allen2022_fmri_{split}.nc")
        shown = list(dict.fromkeys(assembly["stimulus_id"].to_numpy()))
        assert table["stimulus_id"].tolist() == shown
        assert table["filename"].tolist() == [f"{name}.png" for name in shown]
        with zipfile.ZipFile(packages / f"stimulus_Allen2022_fMRI_{split}_Stimuli.zip") as archive:
            assert archive.namelist() == table["filename"].tolist()
            for entry in archive.infolist():
                assert entry.compress_type == zipfile.ZIP_STORED
                assert entry.date_time == (1980, 1, 1, 0, 0, 0)
                source = run / f"stimuli_{split}" / entry.filename
                assert archive.read(entry) == source.read_bytes()

    def test_images_of_other_runs_stay_out_of_the_zip(self, run: Path, tmp_path: Path) -> None:
        stray = run / "stimuli_test" / "nsd_99999.png"
        stray.write_bytes(b"x")
        try:
            write_packages(run, tmp_path)
        finally:
            stray.unlink()
        with zipfile.ZipFile(tmp_path / "stimulus_Allen2022_fMRI_test_Stimuli.zip") as archive:
            assert "nsd_99999.png" not in archive.namelist()

    def test_suffixed_files_give_the_same_packages(self, packages: Path, tmp_path: Path) -> None:
        folder = write_run(tmp_path, simulate(), suffix="_8subj")
        assert (folder / "Allen2022_fmri_train_8subj.nc").exists()
        index = write_packages(folder, tmp_path / "packages", suffix="_8subj")
        assert index.files == PackageIndex.read(packages).files


class TestAgain:
    def test_packages_of_fewer_regions_or_subjects_do_not_replace_those_of_more(
        self, tmp_path: Path
    ) -> None:
        target = tmp_path / "packages"
        write_packages(write_run(tmp_path / "all", simulate()), target)
        before = {path.name: path.read_bytes() for path in target.iterdir()}
        for name, fewer in (
            ("one region", simulate(regions=("V1",))),
            ("one subject", simulate(subjects=(1,))),
            ("another subject", simulate(subjects=(1, 3))),
        ):
            folder = write_run(tmp_path / name, fewer)
            with pytest.raises(OutputError, match=r"packages holds packages of NSD .*replace=True"):
                write_packages(folder, target)
            assert {path.name: path.read_bytes() for path in target.iterdir()} == before
        assert write_packages(folder, target, replace=True).subjects == ("subj01", "subj03")

    def test_more_regions_replace_fewer_and_the_same_ones_themselves(self, tmp_path: Path) -> None:
        target = tmp_path / "packages"
        for number, regions in enumerate((("V1",), ("V1", "IT"), ("IT", "V1"))):
            folder = write_run(tmp_path / str(number), simulate(regions=regions))
            assert set(write_packages(folder, target).regions) == set(regions)

    def test_packages_under_new_names_replace_those_under_old_ones(self, tmp_path: Path) -> None:
        """Nothing stays beside them but what somebody changed."""
        target = tmp_path / "packages"
        for name, subjects in (("four", (1, 2, 5, 7)), ("five", (1, 2, 5, 7, 8))):
            output = tmp_path / name
            write_run(output, simulate(subjects=subjects, regions=("V1",)))
            package_output(output, target, unchecked=True)
            edited = target / "plugin/data/allen2022_fmri_4subj/__init__.py"
            if name == "four":
                assert len(list(target.glob("*_4subj_*"))) == 6
                edited.write_text("mine")
        fresh = tmp_path / "fresh"
        package_output(tmp_path / "five", fresh, unchecked=True)
        left = {path.relative_to(target) for path in target.rglob("*") if path.is_file()}
        made = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
        assert left - made == {edited.relative_to(target)}
        assert made <= left

    def test_an_index_that_names_somebody_s_file_removes_nothing(self, tmp_path: Path) -> None:
        target = tmp_path / "packages"
        write_packages(write_run(tmp_path / "one", simulate(subjects=(1,))), target)
        mine = target / "thesis.txt"
        mine.write_text("all of it")
        index = json.loads((target / "index.json").read_text())
        index["files"][0] |= {"file": mine.name, "sha1": sha1_of_file(mine)}
        (target / "index.json").write_text(json.dumps(index))
        write_packages(write_run(tmp_path / "two", simulate(subjects=(1, 2))), target)
        assert mine.read_text() == "all of it"

    def test_where_the_same_bytes_were_uploaded_is_kept(self, run: Path, tmp_path: Path) -> None:
        index = write_packages(run, tmp_path)
        versions = [file.model_copy(update={"version_id": file.sha1[:5]}) for file in index.files]
        uploaded = index.model_copy(update={"location": "bucket/x", "files": tuple(versions)})
        uploaded.write(tmp_path)
        assert write_packages(run, tmp_path) == uploaded == PackageIndex.read(tmp_path)
        other = write_run(tmp_path / "other", simulate(seed=1))
        again = write_packages(other, tmp_path)
        assert again.location is None
        assert {file.version_id for file in again.files} == {None}

    def test_an_index_of_something_else_stays(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "index.json").write_text('{"pages": 3}')
        with pytest.raises(OutputError, match="no index of packages"):
            write_packages(run, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["index.json"]

    def test_the_command_names_its_options(
        self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "packages"
        write_packages(run, target)
        fewer = write_run(tmp_path / "fewer", simulate(regions=("V1",)))
        words = ["package", str(fewer.parent), "--target", str(target), "--unchecked"]
        assert main(words) == 1
        assert "with --target, or replace them with --replace" in capsys.readouterr().err
        assert main([*words, "--replace"]) == 0


class TestIdentifiers:
    @pytest.mark.parametrize(
        ("subjects", "infix"),
        [
            ((1, 2, 5, 7), "_4subj"),
            ((7, 1, 5, 2), "_4subj"),
            ((1, 2, 5), ""),
            ((1, 2, 5, 7, 8), ""),
        ],
    )
    def test_four_subjects_have_names_of_their_own(
        self, subjects: tuple[int, ...], infix: str, tmp_path: Path
    ) -> None:
        folder = write_run(tmp_path, simulate(subjects=subjects, regions=("V1",)))
        index = write_packages(folder, tmp_path / "packages")
        assert index.registry_prefix == f"Allen2022_fmri{infix}"
        assert [one.identifier for one in index.files] == [
            f"Allen2022_fMRI{infix}_train_Assembly",
            f"Allen2022_fMRI{infix}_train_Stimuli",
            f"Allen2022_fMRI{infix}_train_Stimuli",
            f"Allen2022_fMRI{infix}_test_Assembly",
            f"Allen2022_fMRI{infix}_test_Stimuli",
            f"Allen2022_fMRI{infix}_test_Stimuli",
        ]


@pytest.mark.parametrize("name", ["brainscore-2024", "output"])
def test_an_output_folder_may_have_any_name(
    run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / name / "brainscore")
    index = package_output(tmp_path / name, tmp_path / "packages", unchecked=True)
    shutil.copytree(run, tmp_path / "brainscore-kept")
    monkeypatch.chdir(tmp_path / "brainscore-kept")
    assert package_output(Path(), tmp_path / "kept", unchecked=True) == index


class TestIndex:
    def test_says_what_each_file_is(self, packages: Path) -> None:
        index = PackageIndex.read(packages)
        assert {one.file for one in index.files} == {
            path.name for path in packages.iterdir() if path.name != "index.json"
        }
        for one in index.files:
            content = (packages / one.file).read_bytes()
            assert one.sha1 == hashlib.sha1(content).hexdigest()
            assert one.bytes == len(content)
            assert one.version_id is None
        assert index.regions == ("V1", "V2", "V4", "IT")
        assert index.subjects == ("subj01", "subj02")
        assert index.presentations == {"train": 32, "test": 24}

    def test_altered_file_is_noticed(self, run: Path, tmp_path: Path) -> None:
        index = write_packages(run, tmp_path)
        assert all(is_whole(tmp_path, one) for one in index.files)
        (tmp_path / index.files[0].file).write_bytes(b"altered")
        (tmp_path / index.files[1].file).unlink()
        assert [is_whole(tmp_path, one) for one in index.files[:3]] == [False, False, True]


class TestRefusals:
    def test_nothing_to_package(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError, match=r"expected Allen2022_fmri_train\.nc, stimulus"):
            write_packages(tmp_path, tmp_path / "packages")

    def test_missing_image(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, simulate(regions=("V1",)))
        gone = sorted((folder / "stimuli_test").iterdir())[2]
        gone.unlink()
        with pytest.raises(MissingFilesError, match=f"1 of 8 images of the test .*{gone.name}"):
            write_packages(folder, tmp_path / "packages")
        assert not (tmp_path / "packages" / "index.json").exists()

    @pytest.mark.parametrize("unchecked", [True, False])
    @pytest.mark.parametrize("kind", ["image", "images", "table", "assembly"])
    def test_nothing_is_packed_that_lies_elsewhere(
        self, tmp_path: Path, kind: str, unchecked: bool
    ) -> None:
        folder = write_run(tmp_path / "run", simulate(regions=("V1",)))
        path = {
            "image": next((folder / "stimuli_test").iterdir()),
            "images": folder / "stimuli_train",
            "table": folder / "stimulus_metadata_train.csv",
            "assembly": folder / "Allen2022_fmri_test.nc",
        }[kind]
        path.rename(tmp_path / "private")
        path.symlink_to(tmp_path / "private")
        with pytest.raises(InputFileError, match=f"links?, or lies? behind one, .*{path.name}"):
            write_packages(folder, tmp_path / "packages", unchecked=unchecked)
        assert not (tmp_path / "packages").exists()

    def test_a_folder_that_is_reached_by_a_link(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "results").symlink_to(run.parent)
        folder = tmp_path / "results" / run.name
        assert len(write_packages(folder, tmp_path / "packages").files) == 6

    def test_stimulus_set_of_another_order(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, simulate(regions=("V1",)))
        path = folder / "stimulus_metadata_train.csv"
        pd.read_csv(path)[::-1].to_csv(path, index=False)
        with pytest.raises(InputFileError, match="not that of the train assembly"):
            write_packages(folder, tmp_path / "packages")

    def test_no_index(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError, match=r"index\.json is missing"):
            PackageIndex.read(tmp_path)

    def test_other_index(self, tmp_path: Path) -> None:
        (tmp_path / "index.json").write_text('{"files": 3}')
        with pytest.raises(InputFileError, match="not an index of packages"):
            PackageIndex.read(tmp_path)


class _Benchmark:
    """Stands in for Brain-Score's."""

    def __init__(self, *arguments: str, dataset_prefix: str) -> None:
        self.arguments = (*arguments, dataset_prefix)


def execute(folder: Path) -> dict[str, dict[str, Any]]:
    """Execute the ``__init__.py`` of a plugin's two folders; return what they register."""
    registries: dict[str, dict[str, Any]] = {
        f"{kind}_registry": {} for kind in ("data", "stimulus_set", "benchmark")
    }
    modules = {
        "brainscore_core.supported_data_standards.brainio.assemblies": {"NeuroidAssembly": object},
        "brainscore_core.supported_data_standards.brainio.s3": {
            "load_assembly_from_s3": dict,
            "load_stimulus_set_from_s3": dict,
        },
        "brainscore_vision": {"load_stimulus_set": dict, **registries},
        "brainscore_vision.benchmarks.allen2022_fmri.benchmark": {
            kind: partial(_Benchmark, kind) for kind in ("Allen2022fmri", "Allen2022fmriRSA")
        },
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, members in modules.items():
            module = ModuleType(name)
            vars(module).update(members)
            patch.setitem(sys.modules, name, module)
        for path in folder.rglob("__init__.py"):
            exec(compile(path.read_text(), path, "exec"), {"__package__": "plugin"})
    return registries


HOSTILE = "x'];raise SystemExit('injected');d['"


class TestHostileNames:
    """A name that is Python, from a file of anyone's, neither runs nor enters a plugin."""

    @pytest.mark.parametrize("name", [HOSTILE, "V1\n", "", "{x}", '""" + x', "../V1"])
    @pytest.mark.parametrize("coordinate", ["region", "subject"])
    def test_in_an_assembly(self, tmp_path: Path, coordinate: str, name: str) -> None:
        folder = write_run(tmp_path, simulate(regions=("V1",)))
        for split in ("train", "test"):
            path = folder / f"Allen2022_fmri_{split}.nc"
            assembly = read_assembly(path)
            values = np.full(assembly.sizes["neuroid"], name)
            write_assembly(assembly.assign_coords({coordinate: ("neuroid", values)}), path)
        write_manifest(tmp_path)
        with pytest.raises(InputFileError, match=f"hold a {coordinate} .*cannot be part"):
            write_packages(folder, tmp_path / "packages")
        assert not (tmp_path / "packages").exists()

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("image_file_name", "../../nsd_stimuli.hdf5"),
            ("image_file_name", "nsd_00001.exe"),
            ("stimulus_id", "../x"),
        ],
    )
    def test_in_a_stimulus_table(self, tmp_path: Path, column: str, value: str) -> None:
        folder = write_run(tmp_path, simulate(regions=("V1",)))
        path = folder / "stimulus_metadata_test.csv"
        table = pd.read_csv(path)
        table.loc[0, column] = value
        table.to_csv(path, index=False)
        with pytest.raises(InputFileError, match="stimulus table"):
            write_packages(folder, tmp_path / "packages", unchecked=True)

    @pytest.mark.parametrize(
        "change",
        [
            {"regions": ["V1", HOSTILE]},
            {"subjects": [HOSTILE]},
            {"dataset": "Allen2022"},
            {"files": []},
            {"files": [{"sha1": HOSTILE}]},
            {"files": [{"identifier": HOSTILE}]},
            {"files": [{"file": "../index.json"}]},
        ],
    )
    def test_in_an_index(self, packages: Path, tmp_path: Path, change: dict[str, Any]) -> None:
        content = json.loads((packages / "index.json").read_text())
        if change.get("files"):
            content["files"][0] |= change["files"][0]
        else:
            content |= change
        (tmp_path / "index.json").write_text(json.dumps(content))
        with pytest.raises(InputFileError, match="not an index of packages"):
            PackageIndex.read(tmp_path)

    @pytest.mark.parametrize("dataset", [f"x{HOSTILE}", 'x""" + y + """', "x\\", "x$regions{y}\n"])
    def test_a_dataset_s_name_and_a_location_are_text(
        self, packages: Path, tmp_path: Path, dataset: str
    ) -> None:
        index = PackageIndex.read(packages)
        changed = index.model_copy(update={"dataset": dataset, "location": HOSTILE})
        for path in write_plugin(changed, tmp_path):
            compile(path.read_text(), path, "exec")
        registered = execute(tmp_path)["data_registry"][f"{changed.registry_prefix}_train"]
        assert registered.keywords["bucket"] == HOSTILE


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    run = write_run(folder, simulate(subjects=(1, 2, 5, 7)), dataset="synthetic-demo")
    write_plugin(write_packages(run, folder / "packages"), folder / "packages" / "plugin")
    return folder / "packages"


class TestOtherDatasets:
    """What was made from anything but NSD says so wherever it goes."""

    def test_every_file_names_it(self, other: Path) -> None:
        index = PackageIndex.read(other)
        assert (index.dataset, index.is_nsd) == ("synthetic-demo", False)
        for one in index.files:
            assert one.identifier.startswith("synthetic_demo_fMRI_4subj_")
            assert "synthetic_demo" in one.file
            assert one.content.endswith("(synthetic-demo, not NSD)")
        for path in other.glob("*.nc"):
            assert read_assembly(path).attrs["dataset"] == "synthetic-demo"
        for path in other.glob("*.zip"):
            with zipfile.ZipFile(path) as archive:
                assert archive.comment == b"synthetic-demo, not NSD"
        code = "brainscore_vision.benchmarks.allen2022_fmri.benchmark import"  # is not the data
        for path in (other / "plugin").rglob("*.py"):
            lines = path.read_text().splitlines()
            text = "\n".join(line for line in lines if code not in line and "partial(" not in line)
            assert "Allen2022" not in text
            assert "allen_massive" not in text
        for name in ("data/synthetic_demo_fmri_4subj", "benchmarks/synthetic_demo_fmri_4subj"):
            text = (other / "plugin" / name / "__init__.py").read_text()
            assert "synthetic-demo, which is not NSD" in text

    def test_registrations_have_its_name(self, other: Path) -> None:
        registered = execute(other / "plugin")
        prefix = "synthetic_demo_fmri_4subj"
        assert set(registered["data_registry"]) == {f"{prefix}_train", f"{prefix}_test"}
        assert set(registered["benchmark_registry"]) == {
            f"{prefix}.{region}-{metric}"
            for region in ("V1", "V2", "V4", "IT")
            for metric in ("ridge", "rdm")
        }

    def test_benchmarks_are_brain_score_s_on_its_data_with_its_citation(self, other: Path) -> None:
        made = {
            name: make() for name, make in execute(other / "plugin")["benchmark_registry"].items()
        }
        prefix = "synthetic_demo_fmri_4subj"
        assert made[f"{prefix}.V4-ridge"].arguments == ("Allen2022fmri", "V4", "ridge", prefix)
        assert made[f"{prefix}.IT-rdm"].arguments == ("Allen2022fmriRSA", "IT", prefix)
        assert all("synthetic-demo" in benchmark._bibtex for benchmark in made.values())

    @pytest.mark.parametrize("name", ["Allen2022", "allen-2022", "nsd", "allen2022_fmri", "", "7T"])
    def test_a_name_that_reads_as_nsd_is_refused(self, tmp_path: Path, name: str) -> None:
        folder = write_run(tmp_path, simulate(regions=("V1",)), dataset=name)
        if name == "allen-2022":
            assert write_packages(folder, tmp_path / "p").registry_prefix == "allen_2022_fmri"
            return
        with pytest.raises(InputFileError, match="dataset name"):
            write_packages(folder, tmp_path / "packages")


class TestGate:
    """Only what a run made, and its checks let pass, is packaged; or the package says otherwise."""

    def test_the_index_counts_the_checks(self, packages: Path) -> None:
        assert PackageIndex.read(packages).checks == {"passed": 1, "not decidable": 1}

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_run(tmp_path, simulate(regions=("V1",)))

    def edit_test_assembly(self, folder: Path) -> None:
        path = folder / "Allen2022_fmri_test.nc"
        assembly = read_assembly(path)
        assembly[0, 0, 0] += 1
        write_assembly(assembly, path)

    def edit_image(self, folder: Path) -> None:
        image = next((folder / "stimuli_test").iterdir())
        image.write_bytes(image.read_bytes() + b"x")

    def edit_checks(self, folder: Path) -> None:
        write_manifest(folder.parent, ["passed", "failed"])
        path = folder.parent / "checks.csv"
        path.write_text(path.read_text().replace("failed", "passed"))

    def fail_check(self, folder: Path) -> None:
        write_manifest(folder.parent, ["passed", "failed"])

    def unlist_file(self, folder: Path) -> None:
        path = folder.parent / "manifest.json"
        content = json.loads(path.read_text())
        del content["outputs"]["brainscore/stimulus_metadata_train.csv"]
        path.write_text(json.dumps(content))

    def remove_manifest(self, folder: Path) -> None:
        (folder.parent / "manifest.json").unlink()

    def leave_digests_out(self, folder: Path) -> None:
        path = folder.parent / "manifest.json"
        outputs = json.loads(path.read_text())["outputs"]
        path.write_text(json.dumps({"outputs": {name: {"bytes": 1} for name in outputs}}))

    def empty_manifest(self, folder: Path) -> None:
        (folder.parent / "manifest.json").write_text("{}")

    def say_of_the_run(self, folder: Path, run: str, written: str | None) -> None:
        """Let all that is packaged be of an earlier run, whose checks were kept."""
        checks = folder.parent / "checks.csv"
        checks.rename(checks.with_name(f"checks-{run}.csv"))
        path = folder.parent / "manifest.json"
        content = json.loads(path.read_text())
        outputs = content["outputs"]
        outputs[f"checks-{run}.csv"] = outputs.pop("checks.csv")
        content["outputs"] = {name: entry | {"run": run} for name, entry in outputs.items()}
        content["earlier_runs"] = {run: {"written": written}}
        checks.write_text("name,verdict\nof the last run,failed\n")
        digest = blake3(checks.read_bytes()).hexdigest()
        content["outputs"]["checks.csv"] = {"blake3": digest, "run": "12345678"}
        path.write_text(json.dumps(content))

    def leave_unfinished(self, folder: Path) -> None:
        self.say_of_the_run(folder, "0123abcd", None)

    def fail_check_of_earlier_run(self, folder: Path) -> None:
        self.fail_check(folder)
        self.say_of_the_run(folder, "0123abcd", "2026-03-01")

    def test_the_checks_are_those_of_the_run_that_made_the_files(self, folder: Path) -> None:
        self.say_of_the_run(folder, "0123abcd", "2026-03-01")
        kept = folder.rename(folder.with_name("brainscore-0123abcd"))
        path = folder.parent / "manifest.json"
        path.write_text(path.read_text().replace('"brainscore/', '"brainscore-0123abcd/'))
        assert main(["package", str(kept), "--target", str(folder.parent / "packages")]) == 0
        index = PackageIndex.read(folder.parent / "packages")
        assert index.checks == {"passed": 1, "not decidable": 1}

    def test_files_that_version_0_4_listed_are_verified(self, folder: Path) -> None:
        state_sha256_in_manifest(folder.parent)
        target = folder.parent / "packages"
        assert write_packages(folder, target).checks == {"passed": 1, "not decidable": 1}
        self.edit_test_assembly(folder)
        with pytest.raises(InputFileError, match=r"brainscore/Allen2022_fmri_test.nc first"):
            write_packages(folder, folder.parent / "others")

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            ("leave_unfinished", "of a run that did not end, 0123abcd in manifest.json"),
            ("fail_check_of_earlier_run", r"checks \(check 1\): .*see checks-0123abcd.csv"),
            ("edit_test_assembly", "1 of 45 files .*brainscore/Allen2022_fmri_test.nc first"),
            ("edit_image", "brainscore/stimuli_test/nsd_.* first"),
            ("edit_checks", "1 of 45 .*checks.csv first"),
            ("fail_check", r"has failed checks \(check 1\): expected none"),
            ("unlist_file", "brainscore/stimulus_metadata_train.csv first"),
            ("remove_manifest", r"manifest.json is missing: expected .*of a run that ended"),
            ("empty_manifest", r"is not a run's manifest"),
            ("leave_digests_out", r"is not a run's manifest"),
        ],
    )
    def test_refused_unless_unchecked(self, folder: Path, damage: str, message: str) -> None:
        getattr(self, damage)(folder)
        target = folder.parent / "packages"
        with pytest.raises((InputFileError, MissingFilesError), match=message):
            write_packages(folder, target)
        assert not target.exists()
        index = write_packages(folder, target, unchecked=True)
        assert index.checks is None
        assert json.loads((target / "index.json").read_text())["checks"] is None
        write_plugin(index, target / "plugin")
        text = (target / "plugin" / "data" / "allen2022_fmri" / "__init__.py").read_text()
        assert "Unchecked: packaged without a look at the run" in text


class TestPlugin:
    def registered(self, folder: Path) -> list[tuple[str, str]]:
        pattern = r"^(\w+)_registry\['([^']+)'\]"
        texts = [path.read_text() for path in sorted(folder.rglob("__init__.py"))]
        return [found for text in texts for found in re.findall(pattern, text, flags=re.MULTILINE)]

    def test_registers_data_stimuli_and_benchmarks(self, packages: Path, tmp_path: Path) -> None:
        write_plugin(PackageIndex.read(packages), tmp_path)
        regions = ("V1", "V2", "V4", "IT")
        assert sorted(self.registered(tmp_path)) == sorted(
            [("data", f"Allen2022_fmri_{split}") for split in ("train", "test")]
            + [("stimulus_set", f"Allen2022_fmri_stim_{split}") for split in ("train", "test")]
            + [("benchmark", f"Allen2022_fmri.{r}-{m}") for r in regions for m in ("ridge", "rdm")]
        )

    def test_four_subjects(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, simulate(subjects=(1, 2, 5, 7), regions=("V1",)))
        index = write_packages(folder, tmp_path / "packages")
        write_plugin(index, tmp_path / "plugin")
        assert sorted(self.registered(tmp_path / "plugin")) == [
            ("benchmark", "Allen2022_fmri_4subj.V1-rdm"),
            ("benchmark", "Allen2022_fmri_4subj.V1-ridge"),
            ("data", "Allen2022_fmri_4subj_test"),
            ("data", "Allen2022_fmri_4subj_train"),
            ("stimulus_set", "Allen2022_fmri_4subj_stim_test"),
            ("stimulus_set", "Allen2022_fmri_4subj_stim_train"),
        ]

    def test_holds_every_sha1_identifier_and_version(self, packages: Path, tmp_path: Path) -> None:
        index = PackageIndex.read(packages)
        files = tuple(
            one.model_copy(update={"version_id": f"version-{n}"})
            for n, one in enumerate(index.files)
        )
        index = index.model_copy(update={"files": files, "location": "bucket/some/prefix"})
        write_plugin(index, tmp_path)
        text = (tmp_path / "data" / "allen2022_fmri" / "__init__.py").read_text()
        for one in index.files:
            assert repr(one.sha1) in text
            assert repr(one.identifier) in text
            assert repr(one.version_id) in text
        assert "LOCATION = 'bucket/some/prefix'" in text

    def test_is_python(self, packages: Path, tmp_path: Path) -> None:
        paths = write_plugin(PackageIndex.read(packages), tmp_path)
        for path in paths:
            compile(path.read_text(), path, "exec")
        assert sorted(str(path.relative_to(tmp_path)) for path in paths) == [
            "benchmarks/allen2022_fmri/__init__.py",
            "benchmarks/allen2022_fmri/test.py",
            "data/allen2022_fmri/__init__.py",
            "data/allen2022_fmri/test.py",
        ]


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from brainscore_inputs import simulate, write_run
from nsd_prep.assemblies.brainscore.package import write_packages
from nsd_prep.assemblies.brainscore.plugin import write_plugin
folder = Path(sys.argv[2])
index = write_packages(write_run(folder, simulate()), folder / "packages")
write_plugin(index, folder / "plugin")
"""


@pytest.mark.slow
def test_sha1_is_the_same_in_other_folders_time_zones_locales_and_hash_seeds(
    tmp_path: Path,
) -> None:
    settings = [
        ("a", {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "0"}),
        ("some/longer folder", {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "77"}),
    ]
    found = []
    for name, changed in settings:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder)],
            check=True,
            cwd=folder,
            env={**os.environ, **changed},
        )
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        found.append({str(path.relative_to(folder)): sha1_of_file(path) for path in paths})
    assert found[0] == found[1]
    assert len([name for name in found[0] if name.startswith("packages/")]) == 7


def test_sha1_tells_other_data(run: Path, tmp_path: Path) -> None:
    first = write_packages(run, tmp_path / "first")
    other = write_run(tmp_path / "run", simulate(seed=1))
    second = write_packages(other, tmp_path / "second")
    assert not {one.sha1 for one in first.files} & {one.sha1 for one in second.files}
    assert np.all([len(one.sha1) == 40 for one in second.files])


def test_nothing_is_written_through_a_link_in_the_output_folder(run: Path, tmp_path: Path) -> None:
    output, elsewhere = tmp_path / "output", tmp_path / "elsewhere"
    shutil.copytree(run.parent, output)
    elsewhere.mkdir()
    (output / "packages").symlink_to(elsewhere)
    assert main(["package", str(output)]) == 1
    assert not list(elsewhere.iterdir())
    assert main(["package", str(output), "--target", str(elsewhere)]) == 0
