"""Run Brain-Score's own code on packages, and print what it finds as JSON.

Runs in an environment of its own (requirements.txt beside it), where nsd_prep is not installed::

    python run_brainscore.py PACKAGES PLUGIN FEATURES OUT

PACKAGES is in ``$BRAINIO_HOME`` already, as a local cache; any attempt to reach a network fails.
FEATURES holds, in ``.npz``, the nsd ids and a table of features for each region.
"""

import importlib.util
import json
import socket
import sys
from pathlib import Path

import numpy as np


def refuse(*arguments: object, **_: object) -> None:
    """Stand in for every way to a network."""
    raise OSError(f"offline: something asked for {arguments[1:]}")


socket.socket.connect = refuse  # type: ignore[method-assign,assignment]
socket.getaddrinfo = refuse  # type: ignore[assignment]

import brainscore_vision  # noqa: E402
from brainscore_core.plugin_management.import_plugin import ImportPlugin  # noqa: E402
from brainscore_core.supported_data_standards.brainio.assemblies import (  # noqa: E402
    NeuroidAssembly,
)
from brainscore_vision.benchmark_helpers.neural_common import (  # noqa: E402
    average_repetition,
    filter_reliable_neuroids,
)


class FeatureModel:
    """A model that knows the images by their ids, and answers with given features."""

    def __init__(self, identifier, nsd_ids, features):
        self.identifier = identifier
        self._row = {f"nsd_{nsd_id:05d}": row for row, nsd_id in enumerate(nsd_ids)}
        self._features = features
        self._region = None

    def visual_degrees(self):
        return 8.4

    def start_recording(self, recording_target, time_bins):  # noqa: ARG002
        self._region = recording_target

    def look_at(self, stimuli, number_of_trials):  # noqa: ARG002
        for stimulus_id in stimuli["stimulus_id"]:
            assert Path(stimuli.get_stimulus(stimulus_id)).is_file()
        rows = [self._row[stimulus_id] for stimulus_id in stimuli["stimulus_id"]]
        values = self._features[self._region][rows]
        return NeuroidAssembly(
            values,
            coords={
                "stimulus_id": ("presentation", list(stimuli["stimulus_id"])),
                "nsd_id": ("presentation", list(stimuli["nsd_id"])),
                "neuroid_id": ("neuroid", np.arange(values.shape[1])),
                "region": ("neuroid", [self._region] * values.shape[1]),
            },
            dims=["presentation", "neuroid"],
        )


def execute(path, name):
    """Import a plugin's folder as a package; this is what enters it into the registries."""
    spec = importlib.util.spec_from_file_location(
        name, path / "__init__.py", submodule_search_locations=[str(path)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def located(plugins, kind, registry, identifier):
    """Let Brain-Score search a folder of plugins for a registration."""
    search = ImportPlugin.__new__(ImportPlugin)
    search.plugin_type = kind
    search.plugins_dir = plugins / kind
    search.identifier = identifier
    search.registry_name = registry
    return search.locate_plugin()


def form(assembly):
    return {
        "class": type(assembly).__name__,
        "dims": list(assembly.dims),
        "shape": list(assembly.shape),
        "dtype": str(assembly.dtype),
        "presentation": list(assembly.indexes["presentation"].names),
        "neuroid": list(assembly.indexes["neuroid"].names),
        "time_bin": [list(map(int, one)) for one in assembly["time_bin"].values],
        "identifier": assembly.attrs["identifier"],
        "stimulus_set_identifier": assembly.attrs["stimulus_set_identifier"],
        "stimulus_set": [str(one) for one in assembly.stimulus_set["stimulus_id"]],
        "stimulus_set_columns": sorted(map(str, assembly.stimulus_set.columns)),
        "stimulus_id": [str(one) for one in assembly["stimulus_id"].values],
        "neuroid_id": [str(one) for one in assembly["neuroid_id"].values],
        "zscore_images": assembly.attrs.get("zscore_images"),
        "nan": int(np.isnan(assembly.values).sum()),
    }


def region_of(assembly, region):
    kept = filter_reliable_neuroids(assembly, 30, "nc_testset")
    return kept.isel(neuroid=np.flatnonzero(kept["region"].values == region)).isel(time_bin=0)


def averaging(assembly, region):
    reliable = region_of(assembly, region).load()
    averaged = average_repetition(reliable)
    rows = {str(one): row for row, one in enumerate(averaged["stimulus_id"].values)}
    trials = reliable.transpose("presentation", "neuroid").values
    largest = 0.0
    means = averaged.transpose("presentation", "neuroid").values
    for position, stimulus_id in enumerate(reliable["stimulus_id"].values[::3]):
        mean = trials[3 * position : 3 * position + 3].mean(axis=0)
        largest = max(largest, float(np.abs(means[rows[str(stimulus_id)]] - mean).max()))
    return {
        "reliable": [str(one) for one in reliable["neuroid_id"].values],
        "averaged_shape": list(averaged.shape),
        "difference": largest,
    }


def scores(benchmarks, models):
    found = {}
    for identifier, make in benchmarks.items():
        benchmark = make()
        assert benchmark.identifier == identifier
        found[identifier] = {name: float(benchmark(model)) for name, model in models.items()}
        found[identifier]["ceiling"] = float(benchmark.ceiling)
        of_neuroids = benchmark.ceiling.attrs.get("raw", np.zeros(0))
        found[identifier]["NaN in ceiling"] = int(np.isnan(of_neuroids).sum())
    return found


def ceilings_of_damaged(assembly, region):
    """Tell which voxels have NaN in their ceiling where responses are constant over images.

    In the first three voxels repetition 0, 1, 2 is; in the fourth the mean of repetitions 0 and 1;
    in the fifth the mean of all three.
    """
    damaged = region_of(assembly, region).load()
    repetition = damaged["repetition"].values
    values = damaged.transpose("presentation", "neuroid").values
    for alone in range(3):
        values[repetition == alone, alone] = 0.5
    values[repetition == 1, 3] = -values[repetition == 0, 3]
    both = values[repetition == 0, 4] + values[repetition == 1, 4]
    values[repetition == 2, 4] = -both
    damaged = damaged.transpose("presentation", "neuroid").copy(data=values)
    ceiling = brainscore_vision.load_metric("internal_consistency")(damaged)
    raw = ceiling.attrs["raw"].transpose("split", "neuroid").values
    return {
        "NaN": np.isnan(raw).any(axis=0).tolist(),
        "as the benchmark takes it": float(np.mean(np.median(raw, axis=1))),
        "trials": values.reshape(-1, 3, values.shape[1]).tolist(),
    }


def main(packages, plugin, features_file, out):
    index = json.loads((packages / "index.json").read_text())
    prefix, regions = index["registry_prefix"], index["regions"]
    name = prefix.lower()
    # The published entries come first, and are then replaced: that is how a plugin is tried.
    __import__("brainscore_vision.data.allen2022_fmri")
    __import__("brainscore_vision.benchmarks.allen2022_fmri")
    published = dict(brainscore_vision.benchmark_registry)
    execute(plugin / "data" / name, f"packaged_data_{name}")
    execute(plugin / "benchmarks" / name, f"packaged_benchmarks_{name}")
    wanted = [f"{prefix}.{region}-{kind}" for region in regions for kind in ("ridge", "rdm")]
    # Ridge benchmarks take minutes: of the plugin's own, which differ in the region alone, one.
    of_plugin = [one for one in wanted if one.endswith("-rdm") or ".V4-" in one]
    with np.load(features_file) as arrays:
        nsd_ids = arrays["nsd_ids"]
        models = {
            kind: FeatureModel(kind, nsd_ids, {r: arrays[f"{kind} {r}"] for r in regions})
            for kind in ("latents", "random")
        }
    test = brainscore_vision.load_dataset(f"{prefix}_test")
    result = {
        "located": {
            "data": located(plugin, "data", "data_registry", f"{prefix}_train"),
            "stimuli": located(plugin, "data", "stimulus_set_registry", f"{prefix}_stim_test"),
            "benchmarks": located(plugin, "benchmarks", "benchmark_registry", wanted[0]),
        },
        "train": form(brainscore_vision.load_dataset(f"{prefix}_train")),
        "test": form(test),
        "regions": {region: averaging(test, region) for region in regions},
        "damaged": ceilings_of_damaged(test, "V4"),
        "published_benchmarks": scores({one: published[one] for one in wanted}, models),
        "packaged_benchmarks": scores(
            {one: brainscore_vision.benchmark_registry[one] for one in of_plugin},
            {"latents": models["latents"]},
        ),
    }
    out.write_text(json.dumps(result))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
