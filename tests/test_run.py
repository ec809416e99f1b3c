"""What a run makes of its parameters."""

import logging
from pathlib import Path

import pytest
from library_stages import planned
from small_nsd import SmallNSD


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"dask_address": "tcp://10.0.0.1:8786"}, ["dask_address="]),
        ({"dask_address": "tcp://10.0.0.1:8786", "runner": "dask"}, []),
        ({"crossnobis": True, "report": False}, ["crossnobis="]),
        ({"crossnobis": True}, []),
        ({"zscore_images": "train", "brainscore": False}, ["zscore_images="]),
        ({"suffix": "_a", "assemblies": False, "single_trials": True}, ["suffix="]),
        ({"normalise": "none", "dtype": "int16"}, ["normalise=", "dtype="]),
        ({"normalise": "none", "dtype": "int16", "single_trials": True}, []),
        ({"split": "shared515", "single_trials": True}, ["split="]),
        ({"split": "shared515", "single_trials": True, "normalise": "train-only"}, []),
        ({"assemblies": False, "single_trials": True}, []),
    ],
)
def test_options_without_effect_are_named(
    official: SmallNSD,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    asked: dict[str, object],
    named: list[str],
) -> None:
    with caplog.at_level(logging.WARNING, "nsd_prep"):
        planned(official.root, tmp_path / "out", **asked)
    assert [message.split()[0] for message in caplog.messages] == named
