"""Uploads go to a bucket whole and verified, replace nothing unasked, and can be resumed."""

import base64
import hashlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from brainscore_inputs import simulate, write_manifest, write_run
from moto import server as moto_server

from nsd_prep.assemblies.brainscore import publish
from nsd_prep.assemblies.brainscore.index import PackageIndex
from nsd_prep.assemblies.brainscore.package import write_packages
from nsd_prep.assemblies.brainscore.publish import (
    Destination,
    Step,
    plan_upload,
    refusal,
    s3_client,
    upload,
)
from nsd_prep.core.errors import InputFileError, NSDPrepError, OutputError, ParameterError
from nsd_prep.core.progress import Stage
from nsd_prep.flows.command import main

TO = Destination("bucket", "a/prefix")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    connected = s3_client(server)
    connected.create_bucket(Bucket="bucket")
    connected.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    yield connected
    for kind in ("Versions", "DeleteMarkers"):
        for one in connected.list_object_versions(Bucket="bucket").get(kind, []):
            connected.delete_object(Bucket="bucket", Key=one["Key"], VersionId=one["VersionId"])
    connected.delete_bucket(Bucket="bucket")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_packages(write_run(folder, simulate(regions=("V1",))), folder / "packages")
    return folder / "packages"


@pytest.fixture
def packages(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "packages"))


def content(client: Any, key: str, version: str | None = None) -> bytes:
    extra = {"VersionId": version} if version else {}
    return bytes(client.get_object(Bucket="bucket", Key=key, **extra)["Body"].read())


def actions(steps: list[Step]) -> list[str]:
    return [step.action for step in steps]


def keys(client: Any) -> set[str]:
    return {one["Key"] for one in client.list_objects_v2(Bucket="bucket").get("Contents", [])}


class TestPlan:
    def test_writes_nothing(self, client: Any, packages: Path) -> None:
        before = (packages / "index.json").read_bytes()
        assert actions(plan_upload(packages, TO, client)) == ["upload"] * 6
        assert keys(client) == set()
        assert (packages / "index.json").read_bytes() == before

    def test_tells_what_is_there_and_what_differs(self, client: Any, packages: Path) -> None:
        first, second, *_ = PackageIndex.read(packages).files
        client.put_object(
            Bucket="bucket", Key=TO.key(first.file), Body=(packages / first.file).read_bytes()
        )
        client.put_object(Bucket="bucket", Key=TO.key(second.file), Body=b"other bytes")
        rest = ["upload"] * 4
        assert actions(plan_upload(packages, TO, client)) == ["already there", "differs", *rest]
        steps = plan_upload(packages, TO, client, overwrite=True)
        assert actions(steps) == ["already there", "overwrite", *rest]

    def test_altered_package_is_refused(self, client: Any, packages: Path) -> None:
        one = PackageIndex.read(packages).files[3]
        (packages / one.file).write_bytes(b"altered")
        with pytest.raises(InputFileError, match=f"is missing or has changed .*{one.sha1}"):
            plan_upload(packages, TO, client)

    def test_no_such_bucket(self, client: Any, packages: Path) -> None:
        with pytest.raises(OutputError, match="There is no bucket elsewhere at http"):
            plan_upload(packages, Destination("elsewhere", ""), client)

    @pytest.mark.usefixtures("client")
    def test_no_server(self, packages: Path) -> None:
        config = boto3.session.Config(retries={"total_max_attempts": 1})
        gone = boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=config)
        with pytest.raises(
            OutputError, match=r"The bucket bucket could not be reached .*check the bucket"
        ) as raised:
            plan_upload(packages, TO, gone)
        assert isinstance(raised.value.__cause__, EndpointConnectionError)


class TestUpload:
    def test_objects_have_the_bytes_and_the_index_their_versions(
        self, client: Any, packages: Path
    ) -> None:
        steps = upload(packages, TO, client)
        index = PackageIndex.read(packages)
        assert actions(steps) == ["upload"] * 6
        assert keys(client) == {f"a/prefix/{one.file}" for one in index.files}
        assert index.location == "bucket/a/prefix"
        for one, step in zip(index.files, steps, strict=True):
            assert one.version_id
            assert one.version_id == step.version_id
            stored = content(client, step.key, one.version_id)
            assert hashlib.sha1(stored).hexdigest() == one.sha1

    def test_plugin_gets_location_and_versions(self, client: Any, packages: Path) -> None:
        upload(packages, TO, client)
        text = (packages / "plugin" / "data" / "allen2022_fmri" / "__init__.py").read_text()
        assert "LOCATION = 'bucket/a/prefix'" in text
        for one in PackageIndex.read(packages).files:
            assert repr(one.version_id) in text

    def test_second_upload_does_nothing_and_finds_the_same_versions(
        self, client: Any, packages: Path
    ) -> None:
        upload(packages, TO, client)
        index = (packages / "index.json").read_bytes()
        assert actions(upload(packages, TO, client)) == ["already there"] * 6
        assert (packages / "index.json").read_bytes() == index
        assert len(client.list_object_versions(Bucket="bucket")["Versions"]) == 6

    def test_other_bytes_are_not_replaced_unasked(self, client: Any, packages: Path) -> None:
        last = PackageIndex.read(packages).files[-1]
        client.put_object(Bucket="bucket", Key=TO.key(last.file), Body=b"precious")
        with pytest.raises(OutputError, match="with different contents, so nothing was uploaded"):
            upload(packages, TO, client)
        assert keys(client) == {TO.key(last.file)}
        assert content(client, TO.key(last.file)) == b"precious"

    def test_object_that_appears_in_the_meantime_is_not_replaced(
        self, client: Any, packages: Path
    ) -> None:
        key = TO.key(PackageIndex.read(packages).files[0].file)

        class Racing:
            """Someone else writes the object between the question and the upload."""

            def __getattr__(self, name: str) -> Any:
                return getattr(client, name)

            def put_object(self, **request: Any) -> Any:
                client.put_object(Bucket="bucket", Key=key, Body=b"precious")
                return client.put_object(**request)

        with pytest.raises(OutputError, match="could not be written"):
            upload(packages, TO, Racing())
        assert content(client, key) == b"precious"

    def test_other_bytes_are_replaced_when_asked(self, client: Any, packages: Path) -> None:
        last = PackageIndex.read(packages).files[-1]
        client.put_object(Bucket="bucket", Key=TO.key(last.file), Body=b"precious")
        steps = upload(packages, TO, client, overwrite=True)
        assert actions(steps) == ["upload"] * 5 + ["overwrite"]
        assert content(client, TO.key(last.file)) == (packages / last.file).read_bytes()

    def test_interrupted_upload_goes_on_where_it_stopped(self, client: Any, packages: Path) -> None:
        class StoppedError(Exception):
            pass

        class StoppingStage(Stage):
            def advance(self) -> None:
                super().advance()
                if self.done == 3:
                    raise StoppedError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publish, "current_stage", lambda: StoppingStage("uploading"))
            with pytest.raises(StoppedError):
                upload(packages, TO, client)
        recorded = [one.version_id for one in PackageIndex.read(packages).files]
        assert all(recorded[:3])
        assert recorded[3:] == [None] * 3
        steps = upload(packages, TO, client)
        assert actions(steps) == ["already there"] * 3 + ["upload"] * 3
        assert [step.version_id for step in steps][:3] == recorded[:3]

    def test_another_location_forgets_the_versions_of_the_first(
        self, client: Any, packages: Path
    ) -> None:
        upload(packages, TO, client)
        first = PackageIndex.read(packages)
        upload(packages, Destination("bucket", ""), client)
        second = PackageIndex.read(packages)
        assert second.location == "bucket"
        assert {one.file for one in second.files} < keys(client)
        assert not {o.version_id for o in first.files} & {o.version_id for o in second.files}

    def test_bucket_without_versions(self, client: Any, packages: Path) -> None:
        client.create_bucket(Bucket="plain")
        upload(packages, Destination("plain", "x"), client)
        assert {one.version_id for one in PackageIndex.read(packages).files} == {None}

    def test_damage_on_the_way_is_noticed(self, client: Any, packages: Path) -> None:
        victim = PackageIndex.read(packages).files[2].file

        class Damaging:
            """A server that keeps other bytes than it was sent."""

            def __getattr__(self, name: str) -> Any:
                return getattr(client, name)

            def put_object(self, **request: Any) -> Any:
                if request["Key"].endswith(victim):
                    body = b"damaged"
                    digest = base64.b64encode(hashlib.sha1(body).digest()).decode()
                    request |= {"Body": body, "ChecksumSHA1": digest}
                return client.put_object(**request)

        with pytest.raises(OutputError, match=f"{victim} of the bucket bucket is not what was"):
            upload(packages, TO, Damaging())
        assert [bool(o.version_id) for o in PackageIndex.read(packages).files] == [
            True,
            True,
            False,
            False,
            False,
            False,
        ]

    @pytest.mark.parametrize("call", ["put_object", "head_object"])
    @pytest.mark.parametrize(
        ("checksum", "message"),
        [
            (base64.b64encode(bytes(20)).decode(), "is not what was uploaded: expected SHA-1"),
            (base64.b64encode(bytes(19)).decode(), "which is none: expected a SHA-1 in base64"),
            ("no base64!", "which is none"),
            ("äöü", "which is none"),
            ("a", "which is none"),
            ("00" * 20, "which is none"),
        ],
    )
    def test_an_answer_with_a_wrong_checksum(
        self, client: Any, packages: Path, call: str, checksum: str, message: str
    ) -> None:
        class Wrong:
            """A server, or something between, that states other checksums."""

            def __getattr__(self, name: str) -> Any:
                real = getattr(client, name)
                if name != call:
                    return real
                return lambda **request: dict(real(**request)) | {"ChecksumSHA1": checksum}

        with pytest.raises(OutputError, match=message):
            upload(packages, TO, Wrong())
        assert {one.version_id for one in PackageIndex.read(packages).files} == {None}

    def test_server_without_checksums_is_read_back(self, client: Any, packages: Path) -> None:
        read = []

        class Plain:
            """An older server: it knows no checksums."""

            def __getattr__(self, name: str) -> Any:
                return getattr(client, name)

            def head_object(self, **request: Any) -> Any:
                found = client.head_object(**request)
                return {k: v for k, v in found.items() if not k.startswith("Checksum")}

            def get_object(self, **request: Any) -> Any:
                read.append(request["Key"])
                return client.get_object(**request)

        upload(packages, TO, Plain())
        assert set(read) == keys(client)


class TestAllowed:
    """Only NSD itself, from a run that was looked at, goes up unasked."""

    def test_what_is_not_nsd_needs_a_flag(self, client: Any, tmp_path: Path) -> None:
        run = write_run(tmp_path, simulate(regions=("V1",)), dataset="synthetic-tiny")
        write_packages(run, tmp_path / "packages")
        assert refusal(tmp_path / "packages")
        with pytest.raises(
            InputFileError, match=r"from 'synthetic-tiny', which is not NSD.*allow_non_nsd=True"
        ):
            upload(tmp_path / "packages", TO, client)
        assert keys(client) == set()
        steps = upload(tmp_path / "packages", TO, client, allow_non_nsd=True)
        assert all("synthetic_tiny_fMRI" in step.key for step in steps)
        assert refusal(tmp_path / "packages", allow_non_nsd=True) is None

    def test_what_is_unchecked_needs_a_flag(self, client: Any, tmp_path: Path) -> None:
        run = write_run(tmp_path, simulate(regions=("V1",)))
        (tmp_path / "manifest.json").unlink()
        write_packages(run, tmp_path / "packages", unchecked=True)
        with pytest.raises(InputFileError, match="made with unchecked=True"):
            upload(tmp_path / "packages", TO, client)
        assert keys(client) == set()
        upload(tmp_path / "packages", TO, client, unchecked=True)
        assert len(keys(client)) == 6


def test_package_command(tmp_path: Path, capsys: Any) -> None:
    run = write_run(tmp_path, simulate(regions=("V1",)), dataset="synthetic-tiny")
    write_manifest(tmp_path, ["failed"])
    assert main(["package", str(tmp_path)]) == 1
    assert "has failed checks (check 0)" in capsys.readouterr().err
    assert not (tmp_path / "packages").exists()
    assert main(["package", str(tmp_path), "--unchecked"]) == 0
    assert "synthetic_tiny_fMRI_train_Assembly.nc" in capsys.readouterr().out
    assert main(["publish", str(tmp_path / "packages"), "s3://b", "--upload"]) == 1
    assert "give --allow-non-nsd" in capsys.readouterr().err
    assert run.is_dir()


def test_a_dry_run_that_would_be_refused_says_why_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write_packages(
        write_run(tmp_path, simulate(regions=("V1",)), dataset="synthetic-tiny"),
        tmp_path / "packages",
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    words = ["publish", str(tmp_path / "packages"), "s3://bucket"]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert "give --allow-non-nsd" in shown.err
    assert "allow_non_nsd" not in shown.out + shown.err
    assert "Give --upload" not in shown.out
    assert main([*words, "--allow-non-nsd"]) == 0
    assert "Give --upload" in capsys.readouterr().out


def test_a_dry_run_without_boto3_looks_at_the_files(packages: Path) -> None:
    assert actions(plan_upload(packages, TO, None)) == ["not compared"] * 6
    (packages / PackageIndex.read(packages).files[0].file).unlink()
    with pytest.raises(InputFileError, match="is missing or has changed"):
        plan_upload(packages, TO, None)


def test_command(packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["publish", str(packages), "s3://bucket/a/prefix"]) == 0
    shown, warned = capsys.readouterr()
    assert "without redistribution" in shown
    assert "warning: boto3 is not installed: existing objects were not compared" in warned
    for one in PackageIndex.read(packages).files:
        line = next(line for line in shown.splitlines() if one.file in line)
        assert re.search(r"not compared +[\d.]+ (bytes|kB|MB)  s3://bucket/a/prefix/", line)
    monkeypatch.undo()
    nowhere = ["--endpoint", "http://127.0.0.1:9"]
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["publish", str(packages), "s3://bucket/a/prefix", *nowhere]) == 0
    shown = capsys.readouterr()
    assert "warning: Could not reach the bucket bucket (" in shown.err
    assert "existing objects were not compared." in shown.err
    assert "already uploaded" not in shown.err
    assert shown.out.count("not compared") == 6
    assert main(["publish", str(packages), "bucket/a/prefix"]) == 1
    assert "expected s3://BUCKET/PREFIX" in capsys.readouterr().err


@pytest.mark.usefixtures("client")
def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(ParameterError, match="endpoint 'nonsense' is not one"):
        s3_client("nonsense")


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-another-machine")
    with pytest.raises(ParameterError, match=r"of-another-machine.*; correct AWS_PROFILE"):
        s3_client()


def test_without_boto3_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(NSDPrepError, match="pip install boto3"):
        s3_client()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/some/prefix/", ("bucket", "some/prefix")),
        ("s3://bucket", ("bucket", "")),
    ],
)
def test_destination(text: str, expected: tuple[str, str]) -> None:
    assert Destination.parse(text) == expected


@pytest.mark.parametrize("text", ["", "s3://", "/prefix", "bucket/prefix", "https://bucket/prefix"])
def test_destination_without_bucket(text: str) -> None:
    with pytest.raises(ParameterError, match="names no bucket"):
        Destination.parse(text)
