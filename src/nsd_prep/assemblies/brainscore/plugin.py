"""The plugin that registers packages with Brain-Score, written for them."""

from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Final

from nsd_prep.assemblies.brainscore.index import PackageIndex
from nsd_prep.assemblies.identifiers import SPLITS, base_name
from nsd_prep.core.atomic import write_text

#: Name of the plugin's folder within that of the packages.
PLUGIN_FOLDER: Final = "plugin"
#: Stands for the bucket before the packages are uploaded: Brain-Score then finds them in its local
#: cache, or not at all.
NOT_UPLOADED: Final = "not-uploaded"
#: Brain-Score's benchmarks on NSD, and what they are given after the region.
_BENCHMARK_KINDS: Final = {"ridge": ("Allen2022fmri", ", 'ridge'"), "rdm": ("Allen2022fmriRSA", "")}

# Every name is written with repr, or escaped as text: an index may come from anywhere.
_CITATION: Final = '''BIBTEX = """@article{allen_massive_2022,
  author  = {Allen, E. J. and St-Yves, G. and Wu, Y. and Breedlove, J. L. and Prince, J. S. and
             Dowdle, L. T. and Nau, M. and Caron, B. and Pestilli, F. and Charest, I. and
             Hutchinson, J. B. and Naselaris, T. and Kay, K.},
  title   = {A massive {7T} {fMRI} dataset to bridge cognitive neuroscience and artificial
             intelligence},
  journal = {Nature Neuroscience},
  year    = {2022},
  volume  = {25},
  pages   = {116--126},
  doi     = {10.1038/s41593-021-00962-x},
}"""
'''

_DATA: Final = Template('''"""$about: $n_subjects subjects, $n_neuroids voxels of $in_words.

$checked
"""

from functools import partial

from brainscore_core.supported_data_standards.brainio.assemblies import NeuroidAssembly
from brainscore_core.supported_data_standards.brainio.s3 import (
$s3_imports)
from brainscore_vision import $registries

$citation
LOCATION = $location

$entries''')

_DATA_TEST: Final = Template('''"""The packaged data are what the index of the packages says."""

import numpy as np
import pytest

from brainscore_vision import load_dataset, load_stimulus_set

PREFIX = $prefix
ROWS = $presentations


@pytest.mark.private_access
@pytest.mark.parametrize("split", ["train", "test"])
def test_assembly(split):
    assembly = load_dataset(f"{PREFIX}_{split}")
    assert assembly.dims == ("presentation", "neuroid", "time_bin")
    assert assembly.shape == (ROWS[split], $n_neuroids, 1)
    assert set(assembly["subject"].values) == set($subjects)
    assert set(assembly["region"].values) == set($regions)
    assert np.isfinite(assembly.values).all()


@pytest.mark.private_access
@pytest.mark.parametrize("split", ["train", "test"])
def test_stimulus_set(split):
    shown = load_dataset(f"{PREFIX}_{split}")["stimulus_id"].values
    stimulus_set = load_stimulus_set(f"${stimuli}_stim_{split}")
    assert list(dict.fromkeys(shown)) == list(stimulus_set["stimulus_id"])


@pytest.mark.private_access
def test_train_and_test_share_neuroids_and_no_image():
    train, test = load_dataset(f"{PREFIX}_train"), load_dataset(f"{PREFIX}_test")
    assert np.array_equal(train["neuroid_id"].values, test["neuroid_id"].values)
    assert not set(train["stimulus_id"].values) & set(test["stimulus_id"].values)
    assert sorted(set(test["repetition"].values)) == [0, 1, 2]
''')

_BENCHMARKS: Final = Template('''"""Benchmarks on $about: Brain-Score's ridge regression and RDMs.

They are those of its benchmarks on NSD (brainscore-vision 2.4.2 or newer), on these data.
"""

from functools import partial

from brainscore_vision import benchmark_registry
from brainscore_vision.benchmarks.allen2022_fmri.benchmark import Allen2022fmri, Allen2022fmriRSA

$citation
PREFIX = $prefix


def benchmark(kind, *arguments):
    """Return one of Brain-Score's benchmarks, on these data and with their citation."""
    on_these = kind(*arguments, dataset_prefix=PREFIX)
    on_these._bibtex = BIBTEX
    return on_these


$entries''')

_BENCHMARK_TEST: Final = Template('''"""The benchmarks can be loaded, and say what they are."""

import pytest

from brainscore_vision import load_benchmark

PREFIX = $prefix


@pytest.mark.private_access
@pytest.mark.parametrize("metric", ["ridge", "rdm"])
@pytest.mark.parametrize("region", $regions)
def test_benchmark(region, metric):
    benchmark = load_benchmark(f"{PREFIX}.{region}-{metric}")
    assert benchmark.identifier == f"{PREFIX}.{region}-{metric}"
    assert benchmark.region == region
    assert 0 < float(benchmark.ceiling) <= 1
''')


def write_plugin(index: PackageIndex, folder: Path) -> list[Path]:
    """Write the plugin of packages, and return its files.

    Its two folders, ``data/NAME`` and ``benchmarks/NAME``, go into those of brainscore_vision. The
    index gives SHA-1s, identifiers, and, once uploaded, location and version ids.

    Stimulus sets are registered by the plugin of func1pt8mm alone: those of other spaces are the
    same, and Brain-Score refuses a name that two plugins register.
    """
    texts = _texts(index, folder)
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def remove_plugin(index: PackageIndex, folder: Path) -> None:
    """Remove the plugin of packages, but for files that are not as `write_plugin` writes them."""
    for path, text in _texts(index, folder).items():
        if path.is_file() and path.read_bytes() == text.encode():
            path.unlink()
            with suppress(OSError):  # other files are there
                path.parent.rmdir()


def _texts(index: PackageIndex, folder: Path) -> dict[Path, str]:
    """Return the text of each file of a plugin."""
    has_own_stimuli = index.stimuli_prefix == index.registry_prefix
    loaders, registries = ["load_assembly_from_s3"], ["data_registry", "load_stimulus_set"]
    if has_own_stimuli:
        loaders.append("load_stimulus_set_from_s3")
        registries.append("stimulus_set_registry")
    values = {
        "prefix": repr(index.registry_prefix),
        "stimuli": "{PREFIX}" if has_own_stimuli else index.stimuli_prefix,
        "s3_imports": "".join(f"    {name},\n" for name in loaders),
        "registries": ", ".join(registries),
        "about": _text("NSD" if index.is_nsd else f"{index.dataset}, which is not NSD"),
        "checked": "Every check of the run that made them was looked at, and none failed."
        if index.checks is not None
        else "Unchecked: packaged without a look at the run that made them.",
        "citation": _CITATION if index.is_nsd else _citation_of_other(index.dataset),
        "location": repr(index.location or NOT_UPLOADED),
        "n_subjects": str(len(index.subjects)),
        "n_neuroids": str(index.neuroids),
        "subjects": repr(list(index.subjects)),
        "regions": repr(list(index.regions)),
        "in_words": _text(", ".join(index.regions)),
        "presentations": repr(index.presentations),
    }
    name = index.registry_prefix.lower()
    data, benchmarks = folder / "data" / name, folder / "benchmarks" / name
    return {
        data / "__init__.py": _DATA.substitute(values, entries=_data_entries(index)),
        data / "test.py": _DATA_TEST.substitute(values),
        benchmarks / "__init__.py": _BENCHMARKS.substitute(
            values, entries=_benchmark_entries(index)
        ),
        benchmarks / "test.py": _BENCHMARK_TEST.substitute(values),
    }


def _text(words: str) -> str:
    """Return words as they may stand within a docstring."""
    return repr(words)[1:-1].replace('"', r"\"")


def _citation_of_other(dataset: str) -> str:
    title = f"{dataset}: data in the formats of the Natural Scenes Dataset, which it is not"
    return f'BIBTEX = """@misc{{{base_name(dataset)},\n  title = {{{_text(title)}}},\n}}"""\n'


def _data_entries(index: PackageIndex) -> str:
    prefix, of_stimuli = index.registry_prefix, index.stimuli_prefix
    stimulus_sets, assemblies = [], []
    for split in SPLITS:
        table, images = index.file("stimulus table", split), index.file("stimulus images", split)
        stimulus_sets.append(
            _entry(
                f"stimulus_set_registry[{f'{of_stimuli}_stim_{split}'!r}]",
                "load_stimulus_set_from_s3",
                identifier=repr(table.identifier),
                bucket="LOCATION",
                csv_sha1=repr(table.sha1),
                csv_version_id=repr(table.version_id),
                zip_sha1=repr(images.sha1),
                zip_version_id=repr(images.version_id),
                filename_prefix='"stimulus_"',
            )
        )
        assembly = index.file("assembly", split)
        assemblies.append(
            _entry(
                f"data_registry[{f'{prefix}_{split}'!r}]",
                "load_assembly_from_s3",
                identifier=repr(assembly.identifier),
                bucket="LOCATION",
                sha1=repr(assembly.sha1),
                version_id=repr(assembly.version_id),
                cls="NeuroidAssembly",
                stimulus_set_loader=f"partial(load_stimulus_set, {f'{of_stimuli}_stim_{split}'!r})",
            )
        )
    return "\n".join([*(stimulus_sets if prefix == of_stimuli else ()), *assemblies])


def _entry(name: str, function: str, **keywords: str) -> str:
    arguments = "".join(f"    {keyword}={code},\n" for keyword, code in keywords.items())
    return f"{name} = partial(\n    {function},\n{arguments})\n"


def _benchmark_entries(index: PackageIndex) -> str:
    # Brain-Score finds a plugin by searching its files for these very texts: no loop will do.
    lines = [
        f"benchmark_registry[{f'{index.registry_prefix}.{region}-{metric}'!r}] = "
        f"partial(benchmark, {kind}, {region!r}{others})"
        for metric, (kind, others) in _BENCHMARK_KINDS.items()
        for region in index.regions
    ]
    return "\n".join(lines) + "\n"
