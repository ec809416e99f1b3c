"""Run Brain-Score's own code on packages of surfaces, and print what it finds as JSON.

As run_brainscore.py, whose functions it uses::

    python run_surface.py VOLUME SURFACE FEATURES OUT

VOLUME and SURFACE are folders with packages and their plugin. The stimulus sets of both are
registered by the plugin of the volume.
"""

import json
import sys
from pathlib import Path

import numpy as np
from run_brainscore import (
    FeatureModel,
    averaging,
    brainscore_vision,
    execute,
    form,
    located,
    scores,
)


def main(volume, surface, features_file, out):
    index = json.loads((surface / "packages" / "index.json").read_text())
    prefix, regions = index["registry_prefix"], index["regions"]
    of_volume = json.loads((volume / "packages" / "index.json").read_text())["registry_prefix"]
    # The published entries come first, and are then replaced: that is how a plugin is tried.
    for plugin in ("allen2022_fmri", "allen2022_fmri_surface"):
        __import__(f"brainscore_vision.data.{plugin}")
        __import__(f"brainscore_vision.benchmarks.{plugin}")
    published = dict(brainscore_vision.benchmark_registry)
    execute(volume / "plugin" / "data" / of_volume.lower(), "packaged_data_of_volume")
    execute(surface / "plugin" / "data" / prefix.lower(), "packaged_data_of_surface")
    execute(surface / "plugin" / "benchmarks" / prefix.lower(), "packaged_benchmarks_of_surface")
    with np.load(features_file) as arrays:
        features = dict.fromkeys(regions, arrays["latents"])
        model = FeatureModel("latents", arrays["nsd_ids"], features)
    wanted = [f"{prefix}.{region}-rdm" for region in regions] + [f"{prefix}.V4-ridge"]
    packaged = {one: brainscore_vision.benchmark_registry[one] for one in wanted}
    test = brainscore_vision.load_dataset(f"{prefix}_test")
    plugin = surface / "plugin"
    result = {
        "located": [
            located(plugin, "data", "data_registry", f"{prefix}_train"),
            located(plugin, "benchmarks", "benchmark_registry", wanted[0]),
        ],
        "train": form(brainscore_vision.load_dataset(f"{prefix}_train")),
        "test": form(test),
        "regions": {region: averaging(test, region) for region in regions},
        "packaged_benchmarks": scores(packaged, {"latents": model}),
        "published_benchmarks": scores({one: published[one] for one in wanted}, {"latents": model}),
    }
    out.write_text(json.dumps(result))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
