"""The command ``publish``: packages in a bucket."""

import sys
from pathlib import Path

from nsd_prep.flows.options import Flag


def publish(
    packages: Path,
    destination: str,
    *,
    endpoint: str | None = None,
    upload: Flag = False,
    overwrite: Flag = False,
    allow_non_nsd: Flag = False,
    unchecked: Flag = False,
) -> int:
    """Upload packages to an S3-compatible bucket; a dry run unless --upload is given.

    Each object is verified, interrupted uploads resume, and version ids are written to the index
    and the plugin.

    Args:
        packages: Folder that 'nsd-prep package' wrote.
        destination: s3://BUCKET/PREFIX.
        endpoint: Address of the server; Amazon's by default.
        upload: Upload instead of a dry run.
        overwrite: Replace objects that have different content.
        allow_non_nsd: Allow packages made from a dataset other than NSD, such as a synthetic one.
        unchecked: Allow packages made with --unchecked.
    """
    from importlib.util import find_spec

    from nsd_prep.assemblies.brainscore import publish
    from nsd_prep.assemblies.brainscore.index import PackageIndex
    from nsd_prep.core.errors import OutputError
    from nsd_prep.core.progress import Stages
    from nsd_prep.flows.terminal import print_error
    from nsd_prep.pipeline.summary import size_as_text

    where = publish.Destination.parse(destination)
    if not upload:
        print("dry run: nothing was sent")  # noqa: T201
    if PackageIndex.read(packages).is_nsd:
        print(publish.NSD_TERMS)  # noqa: T201
    refused = publish.refusal(packages, allow_non_nsd=allow_non_nsd, unchecked=unchecked)
    if refused:
        print_error(refused)
        if upload:
            return 1
    if upload:
        client = publish.s3_client(endpoint)
        with Stages().stage("uploading"):
            steps = publish.upload(
                packages,
                where,
                client,
                overwrite=overwrite,
                allow_non_nsd=allow_non_nsd,
                unchecked=unchecked,
            )
    else:
        client = publish.s3_client(endpoint) if find_spec("boto3") else None
        if client is None:
            reason = "boto3 is not installed: existing objects were not compared"
            print(f"warning: {reason}; pip install boto3.", file=sys.stderr)  # noqa: T201
        try:
            with Stages().stage("comparing"):
                steps = publish.plan_upload(packages, where, client, overwrite=overwrite)
        except OutputError as error:  # no credentials, say: the files can be listed all the same
            print(f"warning: {publish.not_compared(where.bucket, error)}", file=sys.stderr)  # noqa: T201
            steps = publish.plan_upload(packages, where, None)
    for step in steps:
        size = size_as_text(step.file.bytes)
        print(f"{step.action:13} {size:>9}  s3://{where.bucket}/{step.key}")  # noqa: T201
    print(f"{size_as_text(sum(step.file.bytes for step in steps))} in total")  # noqa: T201
    if refused:
        return 1
    if not upload:
        print("Give --upload to upload it.")  # noqa: T201
    return 0
