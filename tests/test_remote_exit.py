"""A process that failed to read from a server ends as any other: HDF5 holds nothing of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from remote_files import GRID, N_TRIALS, random_betas, write_in_order

#: Fails to read and to check a session in one way, keeps the errors, and ends.
SCRIPT = """
import sys
from pathlib import Path

import numpy as np
from range_server import RangeServer
from remote_files import GRID, N_TRIALS

from nsd_prep.sources import retry
from nsd_prep.sources.client import Client
from nsd_prep.sources.images import fetch_images
from nsd_prep.sources.sessions import SessionReader

retry._FIRST_PAUSE = retry._LONGEST_PAUSE = 0.002
folder, way = sys.argv[1:]
with RangeServer(Path(folder)) as server:
    client = Client(server.url)
    names = ("in-order.hdf5", "shuffled.hdf5")
    identities = [client.identity(name) for name in names]
    match way:
        case "a server without ranges":
            server.fail("no ranges", times=10_000, method="GET")
        case "another ETag":
            server.change_etag("hdf5")
        case "another ETag in the midst of reading":
            server.change_etag("hdf5", after=1)
        case "a server that is gone":
            server.down()
    errors = []
    for identity in identities:
        for function, arguments in (
            (SessionReader(client).read_voxels, (np.arange(200),)),
            (SessionReader(client).check, ()),
        ):
            try:
                function(identity, *arguments, GRID, N_TRIALS)
            except Exception as error:
                errors.append(error)
    try:
        list(fetch_images(client, np.arange(3)))
    except Exception as error:
        errors.append(error)
    client.close()
print(len(errors), "errors")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    betas = random_betas(1, GRID, N_TRIALS)
    write_in_order(folder / "in-order.hdf5", betas)
    write_in_order(folder / "shuffled.hdf5", betas, "shuffled")
    write_in_order(folder / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", betas)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    [
        "a server without ranges",
        "another ETag",
        "another ETag in the midst of reading",
        "a server that is gone",
    ],
)
def test_a_process_ends_after_reads_that_failed(folder: Path, way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(folder), way],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    n_errors = int(done.stdout.split()[0])
    assert n_errors >= 3
