"""COCO's annotations of the images: captions, and the objects that a crop keeps."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.counts import first_and_others
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.dataset.image_table import CROP_COLUMNS

#: Characters read at once of files of hundreds of megabytes.
_CHARACTERS_AT_ONCE: Final = 1 << 22
_SPACE: Final = " \t\r\n"
Box = tuple[float, float, float, float]


def annotation_files(folder: Path, splits: Sequence[str]) -> dict[tuple[str, str], Path]:
    """Return the files of captions and objects of some splits of COCO, by kind and split.

    Raises
    ------
    MissingFilesError
        One is not there.
    """
    files = {
        (kind, split): folder / f"{kind}_{split}.json"
        for split in splits
        for kind in ("captions", "instances")
    }
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise MissingFilesError(
            f"COCO's annotations {', '.join(path.name for path in missing)} are not in {folder}: "
            "expected the unpacked annotations of 2017, which the images of the dataset are from; "
            "download them from COCO, or correct coco_annotations=."
        )
    return files


def with_annotations(images: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add the captions and objects of images, of which a crop keeps a part.

    Parameters
    ----------
    images : DataFrame
        As `nsd_prep.dataset.image_table.table_of_images` gives it, with coco_id, coco_split and the
        shares that were cut off.
    folder : Path
        With COCO's ``captions_SPLIT.json`` and ``instances_SPLIT.json`` of each coco_split.

    Returns
    -------
    DataFrame
        With the columns captions (a list of str), and categories: a list of objects, each a dict
        of category, area (pixels of the COCO image) and kept (0 to 1, the share of the object's
        area that the crop keeps), by kept descending.

    Raises
    ------
    MissingFilesError
        A file of annotations is not there.
    InputFileError
        A file is not what it should be, or lacks an image; or the images have no coco_id.
    """
    if "coco_id" not in images:
        raise InputFileError(
            "The dataset has no nsd_stim_info_merged.csv, which says what the images are in COCO: "
            "download it, or leave out coco_annotations=."
        )
    splits = sorted(set(images["coco_split"]))
    files = annotation_files(folder, splits)
    captions: dict[int, list[str]] = {}
    objects: dict[int, list[dict[str, Any]]] = {}
    for split in splits:
        rows = images[images["coco_split"] == split]
        crops = {
            int(coco_id): tuple(crop)
            for coco_id, crop in zip(
                rows["coco_id"], rows[list(CROP_COLUMNS)].to_numpy().tolist(), strict=True
            )
        }
        captions |= _captions(files["captions", split], crops.keys())
        objects |= _objects(files["instances", split], crops)
    coco_ids = images["coco_id"].tolist()
    return images.assign(
        captions=pd.Series([captions[number] for number in coco_ids], images.index, dtype=object),
        categories=pd.Series([objects[number] for number in coco_ids], images.index, dtype=object),
    )


def _captions(path: Path, coco_ids: Any) -> dict[int, list[str]]:
    captions: dict[int, list[str]] = {}
    for _, annotation in _entries(path, ("annotations",)):
        image = _of(path, annotation, "image_id")
        if image in coco_ids:
            captions.setdefault(image, []).append(str(_of(path, annotation, "caption")).strip())
    _require(path, coco_ids, captions)
    return captions


def _objects(path: Path, crops: Mapping[int, Any]) -> dict[int, list[dict[str, Any]]]:
    sizes: dict[int, tuple[int, int]] = {}
    names: dict[int, str] = {}
    objects_of_image: dict[int, list[tuple[int, float, float]]] = {image: [] for image in crops}
    later = []  # where a file has its objects before the images that they lie in
    for key, entry in _entries(path, ("images", "annotations", "categories")):
        if key == "categories":
            names[_of(path, entry, "id")] = str(_of(path, entry, "name"))
        elif key == "images" and _of(path, entry, "id") in crops:
            sizes[entry["id"]] = (int(_of(path, entry, "width")), int(_of(path, entry, "height")))
        elif key == "annotations" and _of(path, entry, "image_id") in crops:
            if entry["image_id"] not in sizes:
                later.append(entry)
                continue
            objects_of_image[entry["image_id"]].append(_object_in_crop(path, entry, sizes, crops))
    _require(path, crops, sizes)
    for entry in later:
        objects_of_image[entry["image_id"]].append(_object_in_crop(path, entry, sizes, crops))
    return {
        image: [
            {"category": names.get(label, str(label)), "area": area, "kept": share}
            for label, area, share in sorted(
                objects, key=lambda entry: (-entry[2], -entry[1], entry[0])
            )
        ]
        for image, objects in objects_of_image.items()
    }


def _object_in_crop(
    path: Path,
    entry: Mapping[str, Any],
    sizes: Mapping[int, tuple[int, int]],
    crops: Mapping[int, Any],
) -> tuple[int, float, float]:
    """Return category, area, and the share of the area that the crop keeps."""
    width, height = sizes[entry["image_id"]]
    top, bottom, left, right = crops[entry["image_id"]]
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    shape = _of(path, entry, "segmentation")
    try:
        if isinstance(shape, Mapping):
            area, inside = _areas_of_runs(shape, box)
        else:
            polygons = [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in shape]
            area = sum(abs(_area(polygon)) for polygon in polygons)
            inside = sum(_area_within(polygon, box) for polygon in polygons)
    except (ValueError, TypeError, KeyError) as error:
        raise InputFileError(
            f"{path} has an object ({entry.get('id')}) whose outline cannot be read ({error}): "
            "expected polygons or uncompressed runs, as COCO distributes them; download it again."
        ) from error
    return (
        int(_of(path, entry, "category_id")),
        round(float(area), 2),
        round(min(1.0, float(inside / area)), 4) if area > 0 else 0.0,
    )


def clipped(polygon: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Clip a polygon (n_points, 2), x and y, to a box (left, top, right, bottom).

    Sutherland and Hodgman 1974. Of a polygon that the box cuts into pieces these are joined along
    the box's sides, which changes no area.
    """
    for axis, limit, sign in ((0, box[0], 1), (1, box[1], 1), (0, box[2], -1), (1, box[3], -1)):
        if not len(polygon):
            break
        distance = sign * (polygon[:, axis] - limit)
        following, later = np.roll(polygon, -1, axis=0), np.roll(distance, -1)
        crosses = (distance >= 0) != (later >= 0)
        share = np.divide(distance, distance - later, out=np.zeros(len(distance)), where=crosses)
        crossing = polygon + share[:, np.newaxis] * (following - polygon)
        points = np.stack([polygon, crossing], axis=1)
        polygon = points[np.stack([distance >= 0, crosses], axis=1)]
    return polygon


def _area_within(polygon: NDArray[np.float64], box: Box) -> float:
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if low[0] >= box[0] and low[1] >= box[1] and high[0] <= box[2] and high[1] <= box[3]:
        return abs(_area(polygon))  # most objects are whole
    return abs(_area(clipped(polygon, box)))


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _areas_of_runs(shape: Mapping[str, Any], box: Box) -> tuple[float, float]:
    """Return pixels of a mask of runs (column by column, first outside), and those in a box."""
    height, width = (int(length) for length in shape["size"])
    counts = np.asarray(shape["counts"], dtype=np.int64)
    mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height)
    left, top, right, bottom = (round(edge) for edge in box)
    return float(mask.sum()), float(mask[left:right, top:bottom].sum())


def _of(path: Path, entry: Any, key: str) -> Any:
    if not isinstance(entry, Mapping) or key not in entry:
        raise InputFileError(
            f"{path} has an entry without {key}: expected COCO's annotations; download it again."
        )
    return entry[key]


def _require(path: Path, coco_ids: Any, annotated: Mapping[int, Any]) -> None:
    lacking = sorted(set(coco_ids) - set(annotated))
    if lacking:
        raise InputFileError(
            f"{path} lacks the image {first_and_others(lacking[0], len(lacking), 'image')} of the "
            "dataset (coco_id): expected the annotations of all images of its split; download it "
            "again."
        )


def _entries(path: Path, keys: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Give the entries of some lists of a JSON object, one after the other, in little memory.

    Raises
    ------
    InputFileError
        The file is not such an object.
    """
    with path.open(encoding="utf-8") as file:
        text = _Text(file)
        try:
            text.expect("{")
            while text.peek() != "}":
                key = text.value()
                text.expect(":")
                if text.peek() != "[":
                    text.value()
                else:
                    text.expect("[")
                    while text.peek() != "]":
                        entry = text.value()
                        if key in keys:
                            yield key, entry
                        if text.peek() == ",":
                            text.expect(",")
                    text.expect("]")
                if text.peek() == ",":
                    text.expect(",")
        except (ValueError, UnicodeDecodeError) as error:
            raise InputFileError(
                f"{path} cannot be read as JSON ({error}): it is truncated or of another kind; "
                "download it again."
            ) from error


class _Text:
    """JSON that is decoded value by value as it is read."""

    def __init__(self, file: Any) -> None:
        self._file, self._text, self._offset = file, "", 0
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        read = self._file.read(_CHARACTERS_AT_ONCE)
        self._text, self._offset = self._text[self._offset :] + read, 0
        return bool(read)

    def peek(self) -> str:
        while True:
            while self._offset < len(self._text) and self._text[self._offset] in _SPACE:
                self._offset += 1
            if self._offset < len(self._text):
                return self._text[self._offset]
            if not self._more():
                raise ValueError("it ends too early")

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise ValueError(f"found {self.peek()!r} in place of {character!r}")
        self._offset += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._offset)
            except ValueError:
                if not self._more():
                    raise
                continue
            # A number may go on in what is not read yet.
            if end == len(self._text) and self._more():
                continue
            self._offset = end
            return value
