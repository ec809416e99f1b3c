"""The folder of an export: a second one into it, others, and what was interrupted."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from blake3 import blake3
from earlier_versions import state_sha256_in_manifest
from exported_trials import (
    content,
    of_subject,
)
from small_nsd import SmallNSD, write_small_nsd

import nsd_prep
from nsd_prep.core.digests import sampled_sha256, sha256_of_json
from nsd_prep.core.errors import (
    FailedChecksError,
    InputFileError,
    OutputError,
    ParameterError,
)
from nsd_prep.exports import export_trials
from nsd_prep.exports.folder import opened_export
from nsd_prep.exports.manifest import OF_A_RUN
from nsd_prep.flows.command import main
from nsd_prep.notebook import open_nsd
from nsd_prep.pipeline.earlier import UNFINISHED
from nsd_prep.pipeline.locks import only_run_in
from nsd_prep.single_trials import open_single_trials

#: Exports trials into a folder, and is killed when some files have been written.
KILLED = """
import os, sys
from nsd_prep.exports import export_trials

n_written = 0
replace = os.replace

def replaced(*arguments):
    global n_written
    replace(*arguments)
    n_written += not str(arguments[1]).endswith("manifest.json")
    if n_written == int(sys.argv[3]):
        os._exit(9)

os.replace = replaced
export_trials(sys.argv[1], sys.argv[2], "algonauts2023")
"""
#: Exports trials into a folder, and waits for a line while it writes.
WAITING = """
import sys
from nsd_prep.exports import export_trials, mindeye2

write_text = mindeye2.write_text

def waiting(*arguments):
    mindeye2.write_text = write_text
    print("writing", flush=True)
    sys.stdin.readline()
    write_text(*arguments)

mindeye2.write_text = waiting
export_trials(sys.argv[1], sys.argv[2], "mindeye2")
"""


def as_version_0_4(folder: Path, *trials: Path) -> None:
    """Let the manifest of an export of some trials say what version 0.4 said."""
    path = folder / "manifest.json"
    listed = json.loads(path.read_text())
    del listed["subjects"]
    samples = [sampled_sha256(one) for one in trials]
    of_trials = sha256_of_json(samples) if listed["like"] == "deepnsd" else samples[0]
    for name, entry in listed["outputs"].items():
        for key in ("subjects", "design", "images", "tables", "state"):
            entry.pop(key, None)
        content = entry.pop("content")
        entry["source"] = content if name == "README.md" else of_trials
    path.write_text(json.dumps(listed))


class TestResuming:
    def test_what_is_there_is_not_made_again(self, zscored: Path, tmp_path: Path) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*")}
        export_trials(zscored, tmp_path, "mindeye2")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*")} == before
        (tmp_path / "betas_all_subj01_fp32_renorm.hdf5").unlink()
        export_trials(zscored, tmp_path, "mindeye2")
        assert (tmp_path / "betas_all_subj01_fp32_renorm.hdf5").exists()

    @pytest.mark.parametrize("like", ["mindeye2", "deepnsd"])
    def test_trials_of_which_only_a_table_differs_are_exported_again(
        self, zscored: Path, tmp_path: Path, like: str
    ) -> None:
        trials = Path(shutil.copy(zscored, tmp_path / "subj01.nc"))
        export_trials(trials, tmp_path / "out", like)
        with h5py.File(trials, "a") as file:
            file["voxel_x"][:] = file["voxel_x"][:][::-1]
            file["session"][:] = file["session"][:][::-1]
        export_trials(trials, tmp_path / "out", like)
        export_trials(trials, tmp_path / "fresh", like)
        assert content(tmp_path / "out") == content(tmp_path / "fresh")

    @pytest.mark.parametrize("like", ["mindeye2", "deepnsd"])
    def test_an_export_of_version_0_4_is_not_made_again(
        self, zscored: Path, tmp_path: Path, like: str
    ) -> None:
        export_trials(zscored, tmp_path, like)
        state_sha256_in_manifest(tmp_path)
        as_version_0_4(tmp_path, zscored)

        def times() -> dict[Path, int]:
            files = (path for path in tmp_path.glob("[!.]*") if path.name != "manifest.json")
            return {path: path.stat().st_mtime_ns for path in files}

        before = times()
        export_trials(zscored, tmp_path, like)
        assert times() == before
        (tmp_path / "README.md").write_text("mine")
        with pytest.raises(ParameterError, match="was not written by an export"):
            export_trials(zscored, tmp_path, like)

    def test_an_interrupted_export_leaves_nothing_half_written(
        self, percent: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = "nsd_prep.exports.brain_diffuser._write_images"
        monkeypatch.setattr(module, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export_trials(percent, tmp_path, "brain-diffuser", images=pictures)
        made = json.loads((tmp_path / "manifest.json").read_text())["outputs"]
        there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*.*")}
        assert there == {*made, "manifest.json"}
        monkeypatch.undo()
        kept = tmp_path / "subj01/nsd_train_fmriavg_nsdgeneral_sub1.npy"
        time = kept.stat().st_mtime_ns
        export_trials(percent, tmp_path, "brain-diffuser", images=pictures)
        assert kept.stat().st_mtime_ns == time

    @pytest.mark.slow
    @pytest.mark.parametrize("n_written", [1, 6])
    @pytest.mark.parametrize("other_trials", [False, True], ids=["the same", "other trials"])
    def test_a_killed_export_resumes(
        self,
        surface: tuple[Path, pd.DataFrame, np.ndarray],
        tmp_path: Path,
        n_written: int,
        other_trials: bool,
    ) -> None:
        path, target = shutil.copy(surface[0], tmp_path), tmp_path / "out"
        expected = tmp_path / "expected"
        if other_trials:  # of which there is an export already
            export_trials(path, target, "algonauts2023")
            with h5py.File(path, "a") as file:
                file["response"][...] = np.abs(file["response"][...])
        export_trials(path, expected, "algonauts2023")
        done = subprocess.run([sys.executable, "-c", KILLED, path, target, str(n_written)])
        assert done.returncode == 9
        mine = target / "mine.txt"
        mine.write_text("mine")
        export_trials(path, target, "algonauts2023")
        names = {str(file.relative_to(expected)) for file in expected.rglob("*") if file.is_file()}
        for name in names:
            assert (target / name).read_bytes() == (expected / name).read_bytes()
        there = {str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()}
        assert there == names | {"mine.txt"}

    def test_what_a_failed_export_wrote_of_its_files_is_removed(
        self, surface: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail = lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error"))  # noqa: E731
        monkeypatch.setattr("nsd_prep.exports.algonauts2023._write_masks", fail)
        with pytest.raises(OSError, match="Input/output error"):
            export_trials(surface[0], tmp_path / "out", "algonauts2023")
        assert not [file for file in tmp_path.rglob("*") if file.is_file()]
        monkeypatch.undo()
        export_trials(surface[0], tmp_path / "out", "algonauts2023")

    def test_files_of_others_stay(self, zscored: Path, percent: Path, tmp_path: Path) -> None:
        other = tmp_path / "trials_subj01.csv"
        other.write_text("mine")
        with pytest.raises(ParameterError, match="was not written by an export"):
            export_trials(zscored, tmp_path, "mindeye2")
        assert other.read_text() == "mine"
        other.unlink()
        export_trials(zscored, tmp_path, "mindeye2")
        with pytest.raises(ParameterError, match="holds an export like mindeye2"):
            export_trials(percent, tmp_path, "brain-diffuser")
        other.write_text("changed")
        with pytest.raises(ParameterError, match="was not written by an export"):
            export_trials(zscored, tmp_path, "mindeye2")

    def test_a_full_disk_leaves_no_file(
        self, zscored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("nsd_prep.exports.files.Rows.append", full)
        with pytest.raises(OutputError, match="the disk is full"):
            export_trials(zscored, tmp_path, "mindeye2")
        assert not list(tmp_path.glob("*.hdf5"))
        assert not (tmp_path / "manifest.json").exists()


class TestSeveralCalls:
    """Exports into one folder, one after the other."""

    def test_a_file_of_all_subjects_loses_none(self, zscored: Path, tmp_path: Path) -> None:
        second = of_subject(zscored, tmp_path / "second", 2)
        third = of_subject(zscored, tmp_path / "third", 3)
        out = tmp_path / "out"
        export_trials([zscored, second], out, "deepnsd")
        before = content(out)
        for others, lost, all_subjects in (
            ([second], 1, [1, 2]),
            ([zscored, third], 2, [1, 2, 3]),
        ):
            with pytest.raises(ParameterError) as raised:
                export_trials(others, out, "deepnsd")
            assert f"holds subject {lost} in files of all subjects (" in str(raised.value)
            assert f"all subjects together, subjects={all_subjects}" in str(raised.value)
        assert content(out) == before
        export_trials([third, second, zscored], out, "deepnsd")
        metadata = pd.read_csv(out / "voxel_metadata.csv")
        assert metadata["subj_id"].drop_duplicates().tolist() == [1, 2, 3]

    def test_nor_does_one_of_a_version_that_listed_no_subjects(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(zscored, out, "deepnsd")
        as_version_0_4(out, zscored)
        before = content(out)
        with pytest.raises(ParameterError, match="holds subject 1 in files of all subjects"):
            export_trials(of_subject(zscored, tmp_path / "second", 2), out, "deepnsd")
        assert content(out) == before
        times = {path: path.stat().st_mtime_ns for path in out.glob("*.csv")}
        export_trials(zscored, out, "deepnsd")
        assert {path: path.stat().st_mtime_ns for path in out.glob("*.csv")} == times

    def test_it_is_refused_before_anything_is_computed_in_the_words_of_the_command_line(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        cache, out = tmp_path / "cache", tmp_path / "out"
        words = ["export", str(tiny_nsd), str(out), "--like", "deepnsd", "--cache-dir", str(cache)]
        assert main([*words, "--subjects", "1"]) == 0
        monkeypatch.setattr(
            "nsd_prep.pipeline.open_subjects.extract", lambda *_: pytest.fail("extracted")
        )
        capsys.readouterr()
        assert main([*words, "--subjects", "2"]) == 1
        assert "give all subjects together, --subjects 1 2 or" in capsys.readouterr().err
        assert main([*words, "--subjects", "1", "2", "--min-ncsnr", "0.1"]) == 1
        shown = capsys.readouterr().err
        assert "no --min-ncsnr there, --min-ncsnr 0.1 in this export" in shown
        typo = tmp_path / "trials" / "subj1.nc"
        assert main(["export", str(typo), str(tmp_path / "other"), "--like", "deepnsd"]) == 1
        assert f"{typo}: No such file" in capsys.readouterr().err  # and not "the NSD root"

    @pytest.mark.parametrize("like", ["mindeye2", "brain-diffuser", "algonauts2023"])
    def test_subjects_are_added_and_the_readme_describes_them_all(
        self, zscored: Path, percent: Path, surface: tuple, tmp_path: Path, like: str
    ) -> None:
        files = {"mindeye2": zscored, "brain-diffuser": percent, "algonauts2023": surface[0]}
        out, first = tmp_path / "out", files[like]
        second = of_subject(first, tmp_path / "second", 2)
        export_trials(first, out, like)
        before = content(out)
        export_trials(second, out, like)
        after = content(out)
        changed = ("README.md", "manifest.json")
        assert all(after[name] == before[name] for name in before if name not in changed)
        assert len(after) == 2 * len(before) - len(changed)
        readme = (out / "README.md").read_text()
        export_trials([second, first], tmp_path / "both", like)
        assert readme == (tmp_path / "both" / "README.md").read_text()
        assert "- subject 1: " in readme
        assert "- subject 2: " in readme

    def test_of_a_version_without_records_the_readme_keeps_its_words(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(zscored, out, "mindeye2")
        (said,) = re.findall("^- subject 1: .*$", (out / "README.md").read_text(), re.M)
        as_version_0_4(out, zscored)
        export_trials(of_subject(zscored, tmp_path / "second", 2), out, "mindeye2")
        assert f"{said}\n- subject 2: small" in (out / "README.md").read_text()

    def test_the_readme_says_whose_images_are_not_made(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(percent, out, "brain-diffuser", images=pictures)
        export_trials(of_subject(percent, tmp_path / "second", 2), out, "brain-diffuser")
        readme = " ".join((out / "README.md").read_text().split())
        assert (
            "No images were given for subject 2, whose files of images are not written." in readme
        )
        assert "Here no images were given" not in readme

    def test_two_at_once_are_refused(self, zscored: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        export_trials(zscored, out, "mindeye2")
        before = content(out)
        second = of_subject(zscored, tmp_path / "second", 2)
        with (
            only_run_in(out),
            pytest.raises(ParameterError, match="Another export or run is writing into"),
        ):
            export_trials(second, out, "mindeye2")
        assert content(out) == before
        export_trials(second, out, "mindeye2")
        (tmp_path / "new").mkdir()
        with (
            opened_export(tmp_path / "new", "mindeye2"),
            pytest.raises(ParameterError, match="Another run is writing"),
            only_run_in(tmp_path / "new"),
        ):
            pass

    @pytest.mark.slow
    def test_the_second_of_two_processes_exits_and_both_exports_are_whole(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        second, out = of_subject(zscored, tmp_path / "second", 2), tmp_path / "out"
        commands = [[sys.executable, "-c", WAITING, path, out] for path in (zscored, second)]
        with subprocess.Popen(commands[0], stdin=-1, stdout=-1, text=True) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "writing\n"
            done = subprocess.run(commands[1], input="\n", capture_output=True, text=True)
            assert "ParameterError: Another export or run is writing into" in done.stderr
            first.communicate("\n")
        assert first.returncode == 0
        export_trials(second, out, "mindeye2")
        listed = json.loads((out / "manifest.json").read_text())
        assert content(out).keys() == {*listed["outputs"], "manifest.json"}

    def test_what_was_killed_before_it_replaced_a_file_does_not_stay_unfinished(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        manifest = tmp_path / "manifest.json"
        before, listed = manifest.read_bytes(), json.loads(manifest.read_text())
        manifest.write_text(json.dumps(listed | {"unfinished": ["trials_subj01.csv"]}))
        export_trials(zscored, tmp_path, "mindeye2")
        assert manifest.read_bytes() == before

    def test_a_run_that_has_not_ended_is_not_exported_into(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        assert OF_A_RUN == UNFINISHED
        (tmp_path / OF_A_RUN).write_text("{}")
        with pytest.raises(ParameterError, match="what a run wrote that has not ended"):
            export_trials(zscored, tmp_path, "mindeye2")


class TestOtherDatasets:
    """Of the same name."""

    def test_of_a_dataset(self, official: SmallNSD, tmp_path: Path) -> None:
        other = write_small_nsd(tmp_path / "other", seed=1)
        out = tmp_path / "out"
        one, two = (open_nsd(each.root, cache_dir=tmp_path / "c") for each in (official, other))
        one.export("mindeye2", out, subjects=[1])
        before = content(out)
        with pytest.raises(
            ParameterError,
            match=r"holds betas_all_subj01\S+ from another dataset.*subjects=\[1, 2\]",
        ):
            two.export("mindeye2", out, subjects=[2])
        assert content(out) == before
        one.export("mindeye2", out, subjects=[2])
        two.export("mindeye2", out, subjects=[1, 2])  # all are made again
        two.export("mindeye2", tmp_path / "expected", subjects=[1, 2])
        assert content(out) == content(tmp_path / "expected")

    @pytest.mark.parametrize("like", ["mindeye2", "deepnsd"])
    def test_of_files(self, zscored: Path, tmp_path: Path, like: str) -> None:
        first = of_subject(zscored, tmp_path / "1", 1, design="one")
        second = of_subject(zscored, tmp_path / "2", 2, design="two")
        with pytest.raises(ParameterError, match="and design of the experiment; export them"):
            export_trials([first, second], tmp_path / "out", like)
        export_trials(first, tmp_path / "out", like)
        with pytest.raises(ParameterError, match=r"holds subject 1 in|from another dataset"):
            export_trials(second, tmp_path / "out", like)
        same = of_subject(zscored, tmp_path / "3", 1, design="two")
        export_trials(same, tmp_path / "out", like)
        export_trials([same, second], tmp_path / "out", like)

    def test_what_was_not_recorded_is_not_another(self, zscored: Path, tmp_path: Path) -> None:
        first = of_subject(zscored, tmp_path / "1", 1)
        second = of_subject(zscored, tmp_path / "2", 2, design="two")
        export_trials(first, tmp_path / "out", "mindeye2")
        as_version_0_4(tmp_path / "out", first)
        export_trials(second, tmp_path / "out", "mindeye2")
        export_trials(first, tmp_path / "out", "mindeye2")

    def test_trials_name_the_design_of_their_dataset(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        trials = open_nsd(official.root, cache_dir=tmp_path / "c").single_trials(1, ["V1"])
        assert trials.attrs["design"] == blake3(official.design_path.read_bytes()).hexdigest()

    @pytest.mark.parametrize("which", ["all", "one pixel"])
    def test_other_images_are_exported_again(
        self, percent: Path, pictures: Path, tmp_path: Path, which: str
    ) -> None:
        images = Path(shutil.copy(pictures, tmp_path / "images.hdf5"))
        export_trials(percent, tmp_path / "out", "brain-diffuser", images=images)
        with open_single_trials(percent) as trials:
            nsd_id = int(trials["nsd_id"][0])
        status = images.stat()
        with h5py.File(images, "a") as file:
            changed = ... if which == "all" else (nsd_id, 1, 1, 1)
            file["imgBrick"][changed] = 255 - file["imgBrick"][changed]
        os.utime(images, ns=(status.st_atime_ns, status.st_mtime_ns))
        export_trials(percent, tmp_path / "out", "brain-diffuser", images=images)
        export_trials(percent, tmp_path / "expected", "brain-diffuser", images=images)
        assert content(tmp_path / "out") == content(tmp_path / "expected")

    def test_nothing_is_written_through_a_link_to_a_folder(
        self, percent: Path, tmp_path: Path
    ) -> None:
        for folder in ("elsewhere", "out"):
            (tmp_path / folder).mkdir()
        (tmp_path / "out" / "subj01").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ParameterError, match="subj01 is a link, where this export writes a f"):
            export_trials(percent, tmp_path / "out", "brain-diffuser")
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_nothing_of_version_0_4_stays_beside_other_trials(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(percent, out, "brain-diffuser", images=pictures)
        as_version_0_4(out, percent)
        other = Path(shutil.copy(percent, tmp_path / "subj01.nc"))
        with h5py.File(other, "a") as file:
            file["response"][...] += 1
        with pytest.raises(ParameterError, match="from other trials, and this export does not"):
            export_trials(other, out, "brain-diffuser")
        export_trials(percent, out, "brain-diffuser")  # the same: images stay

    def test_a_folder_of_images_is_told_before_anything_is_written(
        self, percent: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(InputFileError, match="is not a regular file"):
            export_trials(percent, tmp_path / "out", "brain-diffuser", images=tmp_path)
        assert not (tmp_path / "out").exists()

    def test_images_that_were_only_copied_are_not(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        def export(images: Path) -> int:
            export_trials(percent, tmp_path / "out", "brain-diffuser", images=images)
            (stimuli,) = (tmp_path / "out").rglob("nsd_test_stim_sub1.npy")
            return stimuli.stat().st_mtime_ns

        written = export(pictures)
        copied = Path(shutil.copy(pictures, tmp_path / "images.hdf5"))
        assert [export(copied), export(copied)] == [written, written]

    def test_one_value_that_was_corrected_is_exported_again(
        self, zscored: Path, tmp_path: Path
    ) -> None:
        # Some blocks of a large file seldom tell of a few bytes.
        trials = Path(shutil.copy(zscored, tmp_path / "subj01.nc"))
        export_trials(trials, tmp_path / "out", "mindeye2")
        with h5py.File(trials, "a") as file:
            file["response"][40] += 1
        export_trials(trials, tmp_path / "out", "mindeye2")
        export_trials(trials, tmp_path / "expected", "mindeye2")
        assert content(tmp_path / "out") == content(tmp_path / "expected")

    def test_no_file_of_other_trials_stays_beside_a_subjects(
        self, percent: Path, pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        export_trials(percent, out, "brain-diffuser", images=pictures)
        before = content(out)
        other = of_subject(percent, tmp_path / "other", 1, design="other")
        with pytest.raises(ParameterError, match="from other trials, and this export does not"):
            export_trials(other, out, "brain-diffuser")
        assert content(out) == before
        export_trials(percent, out, "brain-diffuser")  # without images: theirs stay
        assert content(out) == before
        export_trials(other, out, "brain-diffuser", images=pictures)


class TestManifests:
    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"made_from": ["small"]}, "expected a mapping in made_from"),
            ({"made_from": None}, "expected a mapping in made_from"),
            ({"outputs": []}, "expected a mapping in outputs"),
            ({"outputs": {"README.md": 5}}, "expected a mapping in outputs, README.md"),
            ({"subjects": 5}, "expected a mapping in subjects"),
            ({"unfinished": 5}, "expected a list in unfinished"),
            ({"unfinished": [[]]}, "expected names in unfinished"),
            ({"kind": []}, "holds something else"),
            ({"like": {}}, "holds an export like {}"),
        ],
    )
    def test_one_that_was_edited_is_named_in_a_sentence(
        self, zscored: Path, tmp_path: Path, wrong: dict[str, object], says: str
    ) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        manifest = tmp_path / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | wrong))
        before = content(tmp_path)
        with pytest.raises(ParameterError, match=re.escape(says)):
            export_trials(zscored, tmp_path, "mindeye2")
        assert content(tmp_path) == before

    @pytest.mark.parametrize("text", ["[]", "5", "null", "", "[" * 100_000, "\x00"])
    def test_one_of_something_else_stays(self, zscored: Path, tmp_path: Path, text: str) -> None:
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ParameterError, match="holds something else"):
            export_trials(zscored, tmp_path, "mindeye2")
        assert content(tmp_path) == {"manifest.json": text.encode()}

    @pytest.mark.parametrize("replace", [True, False])
    @pytest.mark.parametrize("options", [{}, {"single_trials": True, "assemblies": False}])
    def test_a_run_leaves_the_folder_of_an_export_alone(
        self,
        official: SmallNSD,
        zscored: Path,
        tmp_path: Path,
        replace: bool,
        options: dict[str, bool],
    ) -> None:
        export_trials(zscored, tmp_path, "mindeye2")
        before = content(tmp_path)
        with pytest.raises(
            ParameterError, match=r"holds an export like mindeye2 \S+: choose another folder"
        ):
            nsd_prep.prepare(
                nsd_root=official.root,
                output_dir=tmp_path,
                replace=replace,
                **options,
            )
        assert content(tmp_path) == before
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
        words = ["run", "--nsd-root", str(official.root), "--output-dir", str(tmp_path), "--check"]
        assert main([*words, "--cache-dir", str(tmp_path.with_name("cache"))]) == 1

    def test_files_that_another_programs_manifest_lists_are_no_runs(
        self, official: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        listed = {"mine.txt": {"sha256": hashlib.sha256(b"mine").hexdigest()}}
        (out / "manifest.json").write_text(json.dumps({"outputs": listed}))
        options = {"nsd_root": official.root, "output_dir": out, "regions": ["V1"]}
        with pytest.raises(ParameterError, match=r"1 file \(manifest.json\), which no run"):
            nsd_prep.prepare(**options, report=False, brainscore=False)
        with suppress(FailedChecksError):
            nsd_prep.prepare(**options, report=False, brainscore=False, replace=True)
        assert (out / "mine.txt").read_text() == "mine"
