"""S3 itself, as moto imitates it: anonymous and signed reading, an endpoint, listing."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from small_nsd import GRIDS, TRIALS_PER_SESSION, SmallNSD

from nsd_prep.core.errors import MissingFilesError
from nsd_prep.dataset import betas
from nsd_prep.sources.bucket import BucketSource

pytestmark = pytest.mark.slow

GRID = GRIDS[1][::-1]
VOXELS = np.arange(3, 90, 2)
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5"


@pytest.fixture(scope="module")
def endpoint(official: SmallNSD) -> Iterator[str]:
    """Return the URL of a server with the small dataset in a bucket, once at its root."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    s3.create_bucket(Bucket="copy", ACL="public-read")
    for path in official.root.rglob("*"):
        if path.is_file():
            name = path.relative_to(official.root).as_posix()
            for key in (name, f"below/here/{name}"):
                s3.put_object(Bucket="copy", Key=key, Body=path.read_bytes(), ACL="public-read")
    yield url
    server.stop()


@pytest.mark.parametrize("url", ["s3://copy", "s3://copy/below/here/"])
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        {"AWS_ACCESS_KEY_ID": "stray"},
        {"AWS_SECRET_ACCESS_KEY": "stray"},
        {"AWS_SESSION_TOKEN": "stray"},
        {"AWS_PROFILE": "stray", "AWS_S3_EXPRESS": "true", "AWS_REQUESTER_PAYS": "true"},
    ],
)
def test_a_bucket_is_read_as_the_folder_is(
    endpoint: str,
    official: SmallNSD,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    variables: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_ENDPOINT_URL": endpoint, **variables}.items():
        monkeypatch.setenv(name, value)
    source = BucketSource(url, tmp_path)
    assert f"is read from {endpoint}" in caplog.text
    path = tmp_path / BETAS
    assert source.exists(path)
    values = source.read_voxels(path, VOXELS, GRID, TRIALS_PER_SESSION)
    expected = betas.read_voxels(official.root / BETAS, VOXELS, GRID, TRIALS_PER_SESSION)
    assert np.array_equal(values, expected)
    table = official.table_path.relative_to(official.root)
    assert source.read(tmp_path / table) == official.table_path.read_bytes()
    with pytest.raises(MissingFilesError, match="404"):
        source.client.identity("nothing")
    listed = source.client.names("nsddata/experiments")
    assert listed == sorted(
        file.relative_to(official.root).as_posix()
        for file in (official.root / "nsddata/experiments").rglob("*.*")
    )
    assert source.client.names("nowhere") == []
    source.close()


def test_a_bucket_that_is_not_there(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    source = BucketSource("s3://nowhere", tmp_path)
    with pytest.raises(MissingFilesError):
        source.client.identity("nsddata")
    source.close()
