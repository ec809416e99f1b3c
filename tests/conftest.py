"""Fixtures of the whole suite: small datasets with an independent truth."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

# Arrays of tests are small, and several tests run at once: threads of BLAS that wait for each other
# took three times the processor time of the work itself. This is for processes that tests start.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

# Processes that tests start import some 2,000 modules: without bytecode each would compile them
# anew, which takes longer than what most tests ask of it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import hypothesis
import pytest
import scipy.linalg  # noqa: F401 (has a BLAS of its own)
from exported_trials import percent, pictures, surface, zscored  # noqa: F401 (fixtures)
from small_nsd import SmallNSD, write_small_nsd
from threadpoolctl import threadpool_limits

from nsd_prep.dataset.layout import Dataset
from nsd_prep.sources.opening import open_dataset
from nsd_prep.synthetic import write_synthetic_nsd

sys.dont_write_bytecode = False
threadpool_limits(1, "blas")  # in this process, into which a plugin may have imported NumPy before

# What is written survives the end of a process, as tests need it, without waiting for the disk.
os.fsync = lambda _: None

# The same examples in every run, and no folder of found examples beside the code.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session", params=["official", "flat"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallNSD:
    """Return a small dataset in each layout; tests do not change it."""
    root = tmp_path_factory.mktemp("small") / request.param
    return write_small_nsd(root, layout=request.param)


@pytest.fixture
def small_dataset(small: SmallNSD) -> Dataset:
    """Return the small dataset as the library opens it."""
    return open_dataset(small.root)


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> SmallNSD:
    """Return a small dataset in the official layout; tests do not change it."""
    return write_small_nsd(tmp_path_factory.mktemp("official") / "nsd")


@pytest.fixture
def damageable(official: SmallNSD, tmp_path: Path) -> SmallNSD:
    """Return a copy of the small official dataset that the test may change."""
    root = tmp_path / "damaged"
    shutil.copytree(official.root, root)
    return replace(official, root=root)


@pytest.fixture(scope="session")
def tiny_nsd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of the synthetic dataset of the smallest scale; tests do not change it."""
    root = tmp_path_factory.mktemp("tiny") / "nsd"
    write_synthetic_nsd(root)
    return root


@pytest.fixture(scope="session")
def prefect_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what the tests' servers keep."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def user_cache(request: pytest.FixtureRequest, prefect_folder: Path) -> Path:
    """Return a user's folder of caches, with a database without runs once there was a server.

    Prefect takes seconds to make one: where pytest has a cache it is kept for the next tests.
    """
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    return cache.mkdir("user") if cache else prefect_folder / "cache"


@pytest.fixture(scope="module")
def prefect_server(prefect_folder: Path, user_cache: Path) -> Iterator[None]:
    """Start the temporary server of the command line, for all the tests of a file."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    from nsd_prep.flows.server import temporary_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_folder / "home"))
        patch.setenv("XDG_CACHE_HOME", str(user_cache))
        patch.delenv("PREFECT_API_URL", raising=False)
        with temporary_server() as wait_until_it_answers:
            wait_until_it_answers()
            with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: prefect_folder / "results"}):
                yield
                EventsWorker.drain_all()  # which would wait for this server at the end
                APILogWorker.drain_all()


@pytest.fixture
def snapshot() -> Callable[[Path], set[str]]:
    """Return a function that lists every file below a folder."""
    return lambda folder: {str(path.relative_to(folder)) for path in folder.rglob("*")}
