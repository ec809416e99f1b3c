"""Annotations in the form of COCO's, of the images of a table."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def coco(folder: Path, table: pd.DataFrame, **replaced: Any) -> Path:
    """Write COCO's annotations of all images, of 100 x 50 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in table.groupby("coco_split"):
        ids = rows["coco_id"].tolist()
        person = [[0, 0, 20, 0, 20, 5, 0, 5]]
        crowd = {"size": [50, 100], "counts": [50 * 5, 50 * 10, 50 * 85]}
        objects = [
            {"id": 1, "image_id": ids[0], "category_id": 3, "segmentation": SQUARE},
            {"id": 2, "image_id": ids[0], "category_id": 1, "segmentation": person},
            {"id": 3, "image_id": ids[1], "category_id": 3, "segmentation": crowd},
            {"id": 4, "image_id": 5, "category_id": 3, "segmentation": SQUARE},
        ]
        instances = {
            "info": {"description": "annotations", "year": 2017},
            "images": [{"id": one, "width": 100, "height": 50} for one in [5, *ids]],
            "annotations": objects,
            "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "café car"}],
        } | replaced
        captions = [
            {"id": number, "image_id": one, "caption": f"image {one}, {number}\n"}
            for one in [5, *ids]
            for number in (1, 2)
        ]
        text = json.dumps({"annotations": captions}, ensure_ascii=False)
        (folder / f"instances_{split}.json").write_text(json.dumps(instances))
        (folder / f"captions_{split}.json").write_text(text)
    return folder
