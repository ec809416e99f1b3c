"""The versions that pyproject.toml promises are those that are tried."""

import tomllib

import pytest
from documents import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def pinned(name: str) -> dict[str, Version]:
    """Return the versions of a file of constraints, by canonical name."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    return {
        canonicalize_name(each.name): Version(next(iter(each.specifier)).version)
        for each in requirements
    }


def promised() -> list[Requirement]:
    """Return what the package and its extras for users and tests require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = list(project["dependencies"])
    for extra in ("dask", "parquet", "publish", "surface", "zarr", "test"):
        texts += project["optional-dependencies"][extra]
    return [each for each in map(Requirement, texts) if each.name != "nsd-prep"]


@pytest.mark.parametrize("requirement", promised(), ids=lambda each: each.name)
def test_a_lower_bound_is_the_oldest_version_that_is_tried(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    (bound,) = (Version(each.version) for each in requirement.specifier if each.operator == ">=")
    oldest = pinned("constraints-oldest.txt")[name]
    assert Version(oldest.base_version) == bound
    assert requirement.specifier.contains(pinned("constraints.txt")[name])
