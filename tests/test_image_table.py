"""The table of images: against loops over the design, and COCO's annotations against pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from coco_files import SQUARE, coco
from single_trials_inputs import Subject
from small_nsd import SESSIONS, SmallNSD

import nsd_prep
from nsd_prep.core.errors import InputFileError, MissingFilesError, PreflightError
from nsd_prep.dataset.coco import clipped, with_annotations
from nsd_prep.dataset.image_table import CROP_COLUMNS
from nsd_prep.notebook import NSD, open_nsd


@pytest.fixture
def nsd(official: SmallNSD, tmp_path: Path) -> NSD:
    return open_nsd(official.root, cache_dir=tmp_path / "cache")


def test_each_image_against_the_trials(official: SmallNSD, nsd: NSD) -> None:
    images = nsd.images().set_index("nsd_id")
    assert len(images) == 16 + 8 * 16
    assert images["coco_id"].tolist() == [1000 + row for row in range(len(images))]
    assert (images["coco_split"] == "train2017").all()
    assert images[list(CROP_COLUMNS)].drop_duplicates().to_numpy().tolist() == [[0, 0, 0.1, 0.1]]
    assert sorted(images.index[images["is_shared"]] + 1) == official.sharedix
    for subject in SESSIONS:
        expected = Subject.load(official, subject).trials
        seen = 0
        for trial in expected.itertuples():
            name = f"subj{subject:02d}_rep{trial.repetition}"
            assert images.loc[trial.nsd_id, f"{name}_session"] == trial.session
            assert images.loc[trial.nsd_id, f"{name}_trial"] == trial.trial_in_session
            seen += 1
        assert images.filter(regex=f"subj{subject:02d}_rep._trial").notna().sum().sum() == seen


def test_without_the_table_of_stimuli_the_design_alone_is_left(damageable: SmallNSD) -> None:
    damageable.table_path.unlink()
    nsd = open_nsd(damageable.root, cache_dir=damageable.root.parent / "cache")
    images = nsd.images()
    assert "coco_id" not in images
    assert images["is_shared"].sum() == 16
    with pytest.raises(InputFileError, match=r"has no nsd_stim_info_merged\.csv"):
        nsd.images(coco_annotations=damageable.root)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("cropBox", "(0, 0)", "cropBox as"), ("cocoId", "x", "does not describe the images")],
)
def test_a_damaged_table(damageable: SmallNSD, column: str, value: str, message: str) -> None:
    table = pd.read_csv(damageable.table_path, index_col=0).astype({column: object})
    table[column] = value
    damageable.write_table(table)
    with pytest.raises(InputFileError, match=message):
        open_nsd(damageable.root, cache_dir=damageable.root.parent / "cache").images()


class TestAnnotations:
    def test_captions_and_what_the_crop_keeps(self, nsd: NSD, tmp_path: Path) -> None:
        images = nsd.images()
        table = nsd.images(coco_annotations=coco(tmp_path / "coco", images))
        first, second, third = table.iloc[0], table.iloc[1], table.iloc[2]
        assert first["captions"] == ["image 1000, 1", "image 1000, 2"]
        # A tenth is cut off at the left and at the right.
        assert first["categories"] == [
            {"category": "café car", "area": 400.0, "kept": 1.0},
            {"category": "person", "area": 100.0, "kept": 0.5},
        ]
        assert second["categories"] == [{"category": "café car", "area": 500.0, "kept": 0.5}]
        assert third["categories"] == []

    @pytest.mark.parametrize("seed", range(20))
    def test_areas_of_clipped_polygons_are_those_of_their_pixels(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(10, 60, 9)  # star-shaped, so that it does not cross itself
        polygon = np.stack([50 + radius * np.cos(angles), 50 + radius * np.sin(angles)], axis=1)
        box = (20.0, 25.0, 75.0, 85.0)
        x, y = (axis.ravel() + 0.25 for axis in np.meshgrid(*[np.arange(0, 110, 0.5)] * 2))
        inside = np.zeros(len(x), dtype=bool)
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            crosses = (y0 > y) != (y1 > y)
            with np.errstate(divide="ignore"):
                inside ^= crosses & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        inside &= (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
        px, py = clipped(polygon, box).T
        area = abs((px * np.roll(py, -1) - np.roll(px, -1) * py).sum()) / 2
        assert area == pytest.approx(inside.sum() / 4, abs=40)

    def test_a_polygon_outside_is_nothing(self) -> None:
        square = np.array(SQUARE[0], dtype=float).reshape(-1, 2)
        assert len(clipped(square, (50.0, 50.0, 60.0, 60.0))) == 0

    def test_a_large_file_is_read_in_pieces(
        self, nsd: NSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images = nsd.images()
        folder = coco(tmp_path / "coco", images)
        expected = with_annotations(images, folder)
        monkeypatch.setattr("nsd_prep.dataset.coco._CHARACTERS_AT_ONCE", 7)
        pd.testing.assert_frame_equal(with_annotations(images, folder), expected)

    def test_bad_annotations(self, nsd: NSD, tmp_path: Path) -> None:
        images = nsd.images()
        with pytest.raises(MissingFilesError, match=r"captions_train2017.json, instances_train"):
            with_annotations(images, tmp_path)
        few = [{"id": 1000, "width": 1, "height": 1}]
        with pytest.raises(InputFileError, match="lacks the image 1001 and 142 other images of"):
            with_annotations(images, coco(tmp_path, images, images=few))
        broken = [{"id": 1, "image_id": 1000, "category_id": 3, "segmentation": {"counts": "a"}}]
        with pytest.raises(InputFileError, match="whose outline cannot be read"):
            with_annotations(images, coco(tmp_path, images, annotations=broken))
        with pytest.raises(InputFileError, match="an entry without image_id"):
            with_annotations(images, coco(tmp_path, images, annotations=[{"id": 1}]))
        path = coco(tmp_path, images) / "captions_train2017.json"
        path.write_text(path.read_text()[:-20])
        with pytest.raises(InputFileError, match="cannot be read as JSON"):
            with_annotations(images, tmp_path)


def test_a_run_writes_it_beside_single_trials(tiny_nsd: Path, tmp_path: Path) -> None:
    nsd = open_nsd(tiny_nsd, cache_dir=tmp_path / "cache")
    folder = coco(tmp_path / "coco", nsd.images())
    options: dict[str, Any] = {
        "nsd_root": tiny_nsd,
        "output_dir": tmp_path / "out",
        "cache_dir": tmp_path / "cache",
        "regions": ["V1"],
        "single_trials": True,
        "assemblies": False,
        "report": False,
        "progress": False,
    }
    with pytest.raises(PreflightError, match="are not in"):
        nsd_prep.prepare(**options, subjects=[1], coco_annotations=tmp_path)
    result = nsd_prep.prepare(**options, subjects=[1], coco_annotations=folder)
    assert "images.csv" in result.files
    read = pd.read_csv(tmp_path / "out/images.csv")
    expected = nsd.images(coco_annotations=folder)
    assert read["captions"].map(json.loads).tolist() == expected["captions"].tolist()
    assert read["categories"].map(json.loads).tolist() == expected["categories"].tolist()
    columns = list(nsd.images())
    pd.testing.assert_frame_equal(read[columns], expected[columns], check_dtype=False)
    # A caption that was corrected, as long as before, in the middle of its file.
    captions = folder / "captions_train2017.json"
    text = captions.read_text()
    middle = text.index("image ", len(text) // 2)
    captions.write_text(f"{text[:middle]}Image {text[middle + len('image ') :]}")
    nsd_prep.prepare(**options, subjects=[1], coco_annotations=folder)
    corrected = pd.read_csv(tmp_path / "out/images.csv")
    expected = nsd.images(coco_annotations=folder)
    assert corrected["captions"].map(json.loads).tolist() == expected["captions"].tolist()
    read = corrected
    # Another subject's run has no annotations: those that are there stay.
    nsd_prep.prepare(**options, subjects=[2])
    tables = {path.name: pd.read_csv(path) for path in (tmp_path / "out").glob("images*.csv")}
    assert len(tables) == 2
    assert "captions" not in tables.pop("images.csv")
    ((_, kept),) = tables.items()
    pd.testing.assert_frame_equal(kept, read)


def test_parquet_holds_the_same(nsd: NSD, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from nsd_prep.dataset.image_table import write_images

    images = nsd.images()
    csv, parquet = write_images(tmp_path, images)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), images, check_dtype=False)
    assert len(pd.read_csv(csv)) == len(images)
