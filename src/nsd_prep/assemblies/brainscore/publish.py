"""Upload of packages to an S3-compatible bucket."""

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from nsd_prep.assemblies.brainscore.index import PackagedFile, PackageIndex, is_whole
from nsd_prep.assemblies.brainscore.plugin import PLUGIN_FOLDER, write_plugin
from nsd_prep.assemblies.identifiers import base_name
from nsd_prep.core.errors import InputFileError, NSDPrepError, OutputError, ParameterError
from nsd_prep.core.progress import current_stage

#: What is to be done with a file: nothing where the bucket has the same bytes. "not compared" where
#: there is no client to ask the bucket with.
Action = Literal["upload", "already there", "overwrite", "differs", "not compared"]

#: Of NSD's data use agreement, as it bears on an upload.
NSD_TERMS: Final = (
    "NSD is distributed under an agreement: for research and education only, without "
    "redistribution of the data or parts of them. Responses and images made from NSD are parts of "
    "it, so they belong in a bucket that only people who have signed the agreement can read."
)

_READ_SIZE: Final = 1 << 20
_NOT_FOUND: Final = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}


class Destination(NamedTuple):
    """Where packages go; the prefix has no slashes at its ends and may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Read ``s3://BUCKET/PREFIX``; ParameterError where it is of another form."""
        scheme, _, address = text.partition("://")
        bucket, _, prefix = address.partition("/")
        if scheme != "s3" or not bucket:
            raise ParameterError(
                f"The destination {text!r} names no bucket: expected s3://BUCKET/PREFIX."
            )
        return cls(bucket, prefix.strip("/"))

    def key(self, name: str) -> str:
        """Return the key of an object."""
        return f"{self.prefix}/{name}" if self.prefix else name

    @property
    def location(self) -> str:
        """``BUCKET/PREFIX``, as Brain-Score's plugins name it."""
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket


class Step(NamedTuple):
    """What is to be done, or was done, with one file and its object.

    The action is "differs" where the bucket has other bytes and they are to stay; the version is
    that of the object which is there.
    """

    file: PackagedFile
    key: str
    action: Action
    version_id: str | None


def s3_client(endpoint: str | None = None) -> Any:
    """Return a client of S3, or of a server (URL) that speaks its protocol.

    Credentials are taken from where boto3 looks for them. NSDPrepError where boto3 is not
    installed, ParameterError where the endpoint is not a URL, or what boto3 is configured with,
    such as a profile, is not there.
    """
    try:
        import boto3  # an optional extra
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise NSDPrepError(
            "The upload needs boto3, which is not installed: pip install boto3."
        ) from error
    try:
        return boto3.client("s3", endpoint_url=endpoint)
    except ValueError as error:
        raise ParameterError(
            f"The endpoint {endpoint!r} is not one ({error}): expected a URL, such as "
            "https://s3.example.org."
        ) from error
    except BotoCoreError as error:
        raise ParameterError(
            f"Cannot connect to S3 ({str(error).rstrip('.')}): expected a profile of your AWS "
            "configuration; correct AWS_PROFILE, or the files in ~/.aws."
        ) from error


def refusal(packages: Path, *, allow_non_nsd: bool = False, unchecked: bool = False) -> str | None:
    """Return why packages are not uploaded, in a sentence, or None where they may be.

    Data made from anything but NSD itself may be with `allow_non_nsd`; data packaged without a look
    at their run's manifest and checks, with `unchecked`.
    """
    index = PackageIndex.read(packages)
    if not index.is_nsd and not allow_non_nsd:
        return (
            f"The packages in {packages} were made from {index.dataset!r}, which is not NSD: "
            "expected NSD; give allow_non_nsd=True to upload them under identifiers that begin "
            f"with {base_name(index.dataset)}."
        )
    if index.checks is None and not unchecked:
        return (
            f"The packages in {packages} were made with unchecked=True: expected those of a run "
            "whose files and checks were looked at; make them again without it, or give "
            "unchecked=True here too."
        )
    return None


def not_compared(bucket: str, error: OutputError) -> str:
    """Return what a dry run says where `plan_upload` could not look into the bucket."""
    reason = str(error.__cause__ or error).rstrip(".")
    return f"Could not reach the bucket {bucket} ({reason}): existing objects were not compared."


def plan_upload(
    packages: Path, destination: Destination, client: Any | None, *, overwrite: bool = False
) -> list[Step]:
    """Find out what an upload would do; nothing is written anywhere.

    Parameters
    ----------
    packages : Path
        A folder as `nsd_prep.assemblies.brainscore.package.write_packages` leaves it.
    destination : Destination
        Where the packages are to go.
    client : boto3 client of S3, or None
        As `s3_client` gives it; with None the files are looked at and the bucket is not.
    overwrite : bool
        Whether objects with other bytes are replaced.

    Returns
    -------
    list of Step
        In the order of the index.

    Raises
    ------
    InputFileError
        A file is not the one that the index names.
    OutputError
        The bucket cannot be asked.
    """
    index = PackageIndex.read(packages)
    stage = current_stage()
    stage.total = len(index.files)
    for packaged in index.files:
        stage.note = packaged.file
        if not is_whole(packages, packaged):
            raise InputFileError(
                f"{packages / packaged.file} is missing or has changed since it was packaged: "
                f"expected SHA-1 {packaged.sha1}; create the packages again with nsd-prep package."
            )
    if client is None:
        return [
            Step(packaged, destination.key(packaged.file), "not compared", None)
            for packaged in index.files
        ]
    _require_bucket(client, destination.bucket)
    steps = []
    for packaged in index.files:
        stage.note = f"the bucket's {packaged.file}"
        key = destination.key(packaged.file)
        there = _head(client, destination.bucket, key)
        if there is None:
            steps.append(Step(packaged, key, "upload", None))
        elif _sha1_of_object(client, destination.bucket, key, there) == packaged.sha1:
            steps.append(Step(packaged, key, "already there", _version(there)))
        else:
            steps.append(
                Step(packaged, key, "overwrite" if overwrite else "differs", _version(there))
            )
    return steps


def upload(
    packages: Path,
    destination: Destination,
    client: Any,
    *,
    overwrite: bool = False,
    allow_non_nsd: bool = False,
    unchecked: bool = False,
) -> list[Step]:
    """Upload packages, verify each object, and write version ids to the index and the plugin.

    An upload that was interrupted goes on where it stopped: objects with the right bytes are left
    alone. After each object the index is written.

    Parameters
    ----------
    packages, destination, client, overwrite
        As in `plan_upload`; there must be a client.
    allow_non_nsd, unchecked : bool
        As in `refusal`.

    Returns
    -------
    list of Step
        What was done, with the version ids.

    Raises
    ------
    OutputError
        The bucket has an object with other bytes and `overwrite` is not set (nothing is uploaded
        then); or it cannot be written; or what was uploaded is not what is there.
    InputFileError
        A file is not the one that the index names, or `refusal` tells why nothing is uploaded.
    """
    refused = refusal(packages, allow_non_nsd=allow_non_nsd, unchecked=unchecked)
    if refused:
        raise InputFileError(refused)
    steps = plan_upload(packages, destination, client, overwrite=overwrite)
    differing = [step.key for step in steps if step.action == "differs"]
    if differing:
        raise OutputError(
            f"The bucket {destination.bucket} already has {', '.join(differing)} with different "
            "contents, so nothing was uploaded: choose another prefix, or give overwrite=True."
        )
    index = _moved(PackageIndex.read(packages), destination.location)
    done = []
    stage = current_stage()
    for step in steps:
        stage.note = step.file.file
        version = step.version_id
        if step.action != "already there":
            _put(client, destination.bucket, step, packages / step.file.file)
            version = _verified_version(client, destination.bucket, step)
        index = _with_version(index, step.file, version)
        index.write(packages)
        done.append(step._replace(version_id=version))
        stage.advance()
    write_plugin(index, packages / PLUGIN_FOLDER)
    return done


def _put(client: Any, bucket: str, step: Step, path: Path) -> None:
    # The server checks the bytes that arrive against the SHA-1; and where nothing is to be
    # replaced, it refuses if someone else has put an object there in the meantime.
    condition = {} if step.action == "overwrite" else {"IfNoneMatch": "*"}
    what = _object(bucket, step.key)
    with path.open("rb") as body, _explained(what, "written"):
        answer = client.put_object(
            Bucket=bucket,
            Key=step.key,
            Body=body,
            ChecksumSHA1=base64.b64encode(bytes.fromhex(step.file.sha1)).decode(),
            **condition,
        )
    stated = _stated_sha1(what, answer)
    if stated is not None:
        _require_sha1(what, stated, step.file.sha1)


def _verified_version(client: Any, bucket: str, step: Step) -> str | None:
    there = _head(client, bucket, step.key) or {}
    actual = _sha1_of_object(client, bucket, step.key, there) if there else "no object"
    _require_sha1(_object(bucket, step.key), actual, step.file.sha1)
    return _version(there)


def _require_sha1(what: str, sha1: str, expected: str) -> None:
    if sha1 != expected:
        raise OutputError(
            f"{what} is not what was uploaded: expected SHA-1 {expected}, found {sha1}; run the "
            "same command again with overwrite=True."
        )


def _require_bucket(client: Any, bucket: str) -> None:
    from botocore.exceptions import ClientError  # an optional extra

    with _explained(f"The bucket {bucket}", "reached"):
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _NOT_FOUND:
                raise OutputError(
                    f"There is no bucket {bucket} at {client.meta.endpoint_url}: expected one "
                    "that you may write to; create it, or name another."
                ) from error
            if code not in {"403", "AccessDenied"}:  # one may write without being allowed to look
                raise


def _head(client: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """Ask for an object's properties; None where there is no such object."""
    from botocore.exceptions import ClientError  # an optional extra

    with _explained(_object(bucket, key), "looked up"):
        try:
            return dict(client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED"))
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOT_FOUND:
                return None
            raise


def _sha1_of_object(client: Any, bucket: str, key: str, there: dict[str, Any]) -> str:
    """Return the SHA-1 of an object: the server's, or that of the bytes where it has none."""
    stated = _stated_sha1(_object(bucket, key), there)
    if stated is not None:
        return stated
    digest = hashlib.sha1(usedforsecurity=False)
    with _explained(_object(bucket, key), "read"):
        for block in client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_READ_SIZE):
            digest.update(block)
    return digest.hexdigest()


def _stated_sha1(what: str, answer: dict[str, Any]) -> str | None:
    """Return the SHA-1 of a whole object that an answer states; None where it states none."""
    checksum = answer.get("ChecksumSHA1", "")
    if not checksum or re.fullmatch(r".*-[0-9]+", checksum):  # of the checksums of its parts
        return None
    try:
        digest = base64.b64decode(checksum, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha1(usedforsecurity=False).digest_size:
        raise OutputError(
            f"{what} is stated to have the checksum {checksum!r}, which is none: expected a SHA-1 "
            "in base64; check the server at that endpoint, and run the same command again."
        )
    return digest.hex()


def _version(there: dict[str, Any]) -> str | None:
    version = there.get("VersionId")
    return None if version in (None, "null") else str(version)


def _moved(index: PackageIndex, location: str) -> PackageIndex:
    """Name the location; version ids of another one say nothing there."""
    if index.location == location:
        return index
    files = tuple(packaged.model_copy(update={"version_id": None}) for packaged in index.files)
    return index.model_copy(update={"files": files, "location": location})


def _with_version(index: PackageIndex, file: PackagedFile, version: str | None) -> PackageIndex:
    files = tuple(
        entry.model_copy(update={"version_id": version}) if entry.file == file.file else entry
        for entry in index.files
    )
    return index.model_copy(update={"files": files})


def _object(bucket: str, key: str) -> str:
    return f"The object {key} of the bucket {bucket}"


@contextmanager
def _explained(what: str, done: str) -> Iterator[None]:
    """Turn what boto3 says into one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OutputError(
            f"{what} could not be {done} ({error}): check the bucket, the endpoint and your "
            "credentials, and run the same command again; files already uploaded are kept."
        ) from error
