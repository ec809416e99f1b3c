"""The examples of docs/single-trials.md run as they stand."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from single_trials_inputs import Subject
from small_nsd import SmallNSD

DOCUMENT = Path(__file__).parents[1] / "docs" / "single-trials.md"
EXAMPLES = re.findall(r"^```python(?: needs=(\w+))?\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)


@pytest.fixture
def namespace(
    official: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """Return the names after the examples that need nothing more than nsd-prep."""
    subject = Subject.load(official, 1)
    (tmp_path / "trials").mkdir()
    attributes = {"subject": 1, **subject.space.attributes()}
    subject.write(tmp_path / "trials" / "subj01.nc", attributes=attributes)
    n_images = int(subject.trials["nsd_id"].max()) + 1
    features = np.random.default_rng(0).normal(size=(n_images, 5)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for needs, code in EXAMPLES:
        if not needs:
            exec(code, names)
    return names


def test_ridge_and_map(namespace: dict[str, object], official: SmallNSD) -> None:
    rows = np.flatnonzero(namespace["trials"]["is_shared"])
    assert namespace["test"].tolist() == rows.tolist()
    assert namespace["measured"].shape == (len(rows), namespace["reader"].shape[1])
    assert namespace["volume"].shape == official.ncsnr[1].shape
    values = np.asarray(namespace["volume"].dataobj)
    assert np.count_nonzero(values) == np.count_nonzero(namespace["correlation"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "nilearn"])
def test_with_other_libraries(namespace: dict[str, object], library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    (code,) = (code for needs, code in EXAMPLES if needs == library)
    exec(code, namespace)
    if library == "torch":
        assert tuple(namespace["responses"].shape) == (
            len(namespace["train"]),
            namespace["reader"].shape[1],
        )


@pytest.mark.slow
def test_himalaya_takes_the_same_arrays(namespace: dict[str, object]) -> None:
    ridge = pytest.importorskip("himalaya.ridge").RidgeCV(alphas=np.logspace(0, 5, 6))
    features, image, train = (namespace[name] for name in ("features", "image", "train"))
    ridge.fit(features[image[train]], namespace["reader"][train])
    predicted = ridge.predict(features[image[namespace["test"]]])
    assert predicted.shape == namespace["measured"].shape
