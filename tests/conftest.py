"""Fixtures of the whole suite: small datasets with an independent truth."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from small_nsd import SmallNSD, write_small_nsd

from nsd_prep.dataset.layout import Dataset
from nsd_prep.sources.opening import open_dataset
from nsd_prep.synthetic import write_synthetic_nsd

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


@pytest.fixture
def snapshot() -> Callable[[Path], set[str]]:
    """Return a function that lists every file below a folder."""
    return lambda folder: {str(path.relative_to(folder)) for path in folder.rglob("*")}
