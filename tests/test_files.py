"""Files: whole or not at all, and errors of the disk in one sentence."""

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from nsd_prep.core.atomic import (
    explained_write_errors,
    remove_stale_partials,
    replaced,
    write_json,
    write_text,
    written_whole,
)
from nsd_prep.core.digests import (
    as_recorded,
    digest_of_bytes,
    digest_of_file,
    digest_of_json,
    has_digest,
    recorded_digest,
)
from nsd_prep.core.errors import (
    InputFileError,
    MissingFilesError,
    NSDPrepError,
    OutputError,
    ParameterError,
    PreflightError,
)
from nsd_prep.core.records import FileIdentity, Folder

#: What b3sum and sha256sum print of no bytes, and b3sum of "abc".
EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"

writers = pytest.mark.parametrize("writer", [replaced, written_whole])


def test_outputs_on_a_disk_without_locks_have_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="no locks for files; choose a folder on another disk"),
        explained_write_errors(tmp_path),
    ):
        raise OSError(errno.ENOLCK, "No locks available")


class TestReplacing:
    @writers
    def test_a_file_gets_its_name_at_the_end(self, tmp_path: Path, writer) -> None:
        path = tmp_path / "deep" / "er" / "file"
        with writer(path) as partial:
            partial.write_text("new")
            assert not path.exists()
            assert partial.parent == path.parent, "on the same disk"
        assert path.read_text() == "new"
        assert list(path.parent.iterdir()) == [path]

    @writers
    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
    def test_a_block_that_fails_leaves_what_was_there(
        self, tmp_path: Path, writer, error: BaseException
    ) -> None:
        path = tmp_path / "file"
        path.write_text("old")

        def write_half() -> None:
            with writer(path) as partial:
                partial.write_text("half")
                raise error

        with pytest.raises(type(error)):
            write_half()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_block_that_writes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), replaced(tmp_path / "file"):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_who_reads_the_old_file_reads_on(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("old")
        with path.open() as reader:
            write_text(path, "new")
            assert reader.read() == "old"
        assert path.read_text() == "new"

    def test_writers_of_one_file_do_not_meet(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        with replaced(path) as one, replaced(path) as other:
            assert one != other
            one.write_text("one")
            other.write_text("other")
        assert path.read_text() == "one"


class TestWriteErrors:
    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (errno.ENOSPC, "the disk is full; free some space"),
            (errno.EDQUOT, "the quota is used up; free some space"),
            (errno.EACCES, "permission is denied; choose a folder"),
            (errno.EROFS, "the disk is read-only; choose another folder"),
            (errno.EFBIG, "files may not be so large there; choose another folder"),
        ],
    )
    def test_one_sentence(self, tmp_path: Path, number: int, words: str) -> None:
        path = tmp_path / "file"
        with pytest.raises(OutputError) as raised, replaced(path):
            raise OSError(number, os.strerror(number))
        assert str(raised.value).startswith(f"{path} cannot be written: {words}")
        assert "run the same command again" in str(raised.value)

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file" / "one", tmp_path / "file" / "deeper" / "one"):
            with pytest.raises(OutputError) as raised, replaced(path):
                pytest.fail("there is nowhere to write")
            assert str(path) in str(raised.value)
            assert "choose another folder" in str(raised.value)

    def test_what_a_second_try_may_mend_stays_as_it_is(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="Input/output") as raised, replaced(tmp_path / "file"):
            raise OSError(errno.EIO, "Input/output error")
        assert not isinstance(raised.value, NSDPrepError)

    def test_an_explained_error_is_not_explained_again(self, tmp_path: Path) -> None:
        with (
            pytest.raises(OutputError) as raised,
            explained_write_errors(tmp_path / "outer"),
            explained_write_errors(tmp_path / "inner"),
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert "inner" in str(raised.value)
        assert "outer" not in str(raised.value)


class TestStalePartials:
    def test_what_killed_processes_left_is_removed(self, tmp_path: Path) -> None:
        script = (
            "import os, sys; from pathlib import Path; from nsd_prep.core.atomic import replaced\n"
            "with replaced(Path(sys.argv[1])) as partial:\n"
            "    partial.write_text('half'); os._exit(9)\n"
        )
        path = tmp_path / "deep" / "file.nc"
        subprocess.run([sys.executable, "-c", script, str(path)], check=False)
        (left,) = path.parent.iterdir()
        other_machine = left.with_name(left.name.replace(".nc.", ".nc.x"))
        other_machine.write_text("half")
        (tmp_path / ".mine.partial").write_text("not ours")
        with replaced(tmp_path / "living") as living:
            living.write_text("being written")
            assert remove_stale_partials(tmp_path) == [left]
            assert living.exists()
        assert not left.exists()
        assert other_machine.exists()
        assert (tmp_path / ".mine.partial").exists()

    @pytest.mark.parametrize("at", ["in the block", "old away", "exchanged"])
    def test_a_folder_of_a_killed_process_is_whole_afterwards(
        self, tmp_path: Path, at: str
    ) -> None:
        """Whatever is made next in its folder: the old one is there, or the new one."""
        script = """
import os, sys
from pathlib import Path
from nsd_prep.core.atomic import replaced_folder
path, at = Path(sys.argv[1]), sys.argv[2]
rename, renamed = Path.rename, []
def killed(source, target):
    if at == "old away" and renamed:
        os._exit(9)
    rename(source, target)
    renamed.append(source)
    if at == "exchanged" and len(renamed) == 2:
        os._exit(9)
Path.rename = killed
with replaced_folder(path) as partial:
    (partial / "content").write_text("new")
    if at == "in the block":
        os._exit(9)
"""
        path = tmp_path / "subj01.zarr"
        path.mkdir()
        (path / "content").write_text("old")
        words = [sys.executable, "-c", script, str(path), at]
        assert subprocess.run(words, check=False).returncode == 9
        assert len(list(tmp_path.iterdir())) > 1
        remove_stale_partials(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
        assert (path / "content").read_text() == ("new" if at == "exchanged" else "old")

    @pytest.mark.parametrize("replaced", [True, False])
    def test_what_earlier_versions_left_of_stores(self, tmp_path: Path, replaced: bool) -> None:
        names = [".subj01.zarr.old", ".subj01.zarr.partial-folder"]
        for name in [*names, "subj01.zarr"] if replaced else names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "zarr.json").write_text(name)
        remove_stale_partials(tmp_path)
        (store,) = tmp_path.iterdir()
        assert store.name == "subj01.zarr"
        assert (store / "zarr.json").read_text() == (store.name if replaced else names[0])

    def test_a_folder_that_is_not_there_holds_nothing(self, tmp_path: Path) -> None:
        assert remove_stale_partials(tmp_path / "nowhere") == []


class TestWhatIsOfAFolder:
    """A record that was altered names any file."""

    @pytest.mark.parametrize(
        "name",
        [
            "../victim",
            "/etc/hostname",
            "./own",
            "a//b",
            "",
            "link",
            "to/own",
            "nul\0",
            "folder",
            "x",
        ],
    )
    def test_names_that_lead_elsewhere(self, tmp_path: Path, name: str) -> None:
        folder = Folder(path=tmp_path / "out")
        (folder.path / "folder").mkdir(parents=True)
        for path in (tmp_path / "victim", folder.path / "own"):
            path.write_text("content")
        (folder.path / "link").symlink_to(tmp_path / "victim")
        (folder.path / "to").symlink_to(folder.path)
        digest = digest_of_file(folder.path / "own")
        assert folder.holds({"own": digest})
        assert not folder.holds({name: digest})


class TestContent:
    def test_text_has_unix_line_ends(self, tmp_path: Path) -> None:
        write_text(tmp_path / "file", "ä\nb\n")
        assert (tmp_path / "file").read_bytes() == "ä\nb\n".encode()

    def test_json_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        value = {"b": [1, 2.5, None, True], "a": {"ä": "x"}}
        write_json(tmp_path / "file.json", value)
        text = (tmp_path / "file.json").read_text(encoding="utf-8")
        assert json.loads(text) == value
        assert list(json.loads(text)) == ["b", "a"]
        assert text.endswith("}\n")

    def test_a_value_that_json_lacks_writes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "file.json", {"a": float("nan")})
        assert list(tmp_path.iterdir()) == []

    def test_the_digest_of_a_file(self, tmp_path: Path) -> None:
        content = bytes(range(256)) * 9000
        (tmp_path / "file").write_bytes(content)
        assert digest_of_file(tmp_path / "file") == blake3(content).hexdigest()
        (tmp_path / "empty").touch()
        assert digest_of_file(tmp_path / "empty") == EMPTY
        assert digest_of_bytes(b"abc") == ABC

    @pytest.mark.parametrize(
        ("record", "digest"),
        [({"blake3": EMPTY}, EMPTY), ({"sha256": EMPTY_SHA256}, f"sha256:{EMPTY_SHA256}")],
    )
    def test_a_digest_that_an_earlier_version_recorded_is_compared_as_it_was_made(
        self, tmp_path: Path, record: dict[str, str], digest: str
    ) -> None:
        path = tmp_path / "file"
        path.touch()
        assert recorded_digest(record) == digest
        assert as_recorded(digest) == record
        assert has_digest(path, digest)
        assert Folder(path=tmp_path).holds({"file": digest})
        path.write_text("altered")
        assert not has_digest(path, digest)
        assert not Folder(path=tmp_path).holds({"file": digest})

    @pytest.mark.parametrize(
        "record", [{}, {"blake3": None}, {"sha256": 5}, {"blake3": EMPTY_SHA256}, {"sha256": EMPTY}]
    )
    def test_no_file_has_the_digest_of_a_record_without_one(
        self, tmp_path: Path, record: dict[str, object]
    ) -> None:
        (tmp_path / "file").touch()
        assert not has_digest(tmp_path / "file", recorded_digest(record))

    def test_the_digest_of_a_value(self) -> None:
        assert digest_of_json({"a": 1, "b": [2]}) == digest_of_json({"b": [2], "a": 1})
        assert digest_of_json({"a": 1, "b": [2]}) != digest_of_json({"a": 1, "b": [3]})
        assert digest_of_json([1, 2]) != digest_of_json([2, 1])
        assert digest_of_json({"a": 1}) == blake3(b'{"a":1}').hexdigest()


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "builtin"),
        [
            (ParameterError("one sentence."), ValueError),
            (InputFileError("one sentence."), ValueError),
            (MissingFilesError("one sentence."), FileNotFoundError),
            (OutputError("one sentence."), OSError),
            (PreflightError(["one sentence."]), Exception),
        ],
    )
    def test_errors_travel_between_processes(self, error: NSDPrepError, builtin: type) -> None:
        travelled = pickle.loads(pickle.dumps(error))
        assert type(travelled) is type(error)
        assert isinstance(travelled, NSDPrepError)
        assert isinstance(travelled, builtin)
        assert str(travelled) == "one sentence."

    def test_preflight_lists_all_problems(self) -> None:
        text = str(PreflightError(["the first.", "the second."]))
        assert text.splitlines()[0].startswith("2 problems")
        assert "- the first." in text
        assert "- the second." in text


def test_a_files_identity(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.utime(path, ns=(5, 1_700_000_000_123_456_789))
    identity = FileIdentity.from_path(path)
    assert identity.path == str(path)
    assert identity.bytes == 5
    assert identity.modified == 1_700_000_000_123_456_789
