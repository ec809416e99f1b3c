"""Labels of atlases: names and numbers of sites against a count over the files."""

import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from small_nsd import SESSIONS, VOLUMES, SmallNSD, write_small_nsd, write_volume

from nsd_prep.core.errors import MissingFilesError
from nsd_prep.dataset.atlases import COLUMNS, as_text, label_table_of_atlases
from nsd_prep.flows.command import main
from nsd_prep.notebook import open_nsd
from nsd_prep.sources.opening import open_dataset

FACES = {1: "OFA", 2: "FFA-1", 3: "FFA-2", 4: "mTL-faces", 5: "aTL-faces"}


def test_every_label_of_every_hemisphere(official: SmallNSD) -> None:
    table = label_table_of_atlases(open_dataset(official.root), tuple(SESSIONS))
    assert tuple(table) == COLUMNS
    assert len(table) == len(SESSIONS) * sum(VOLUMES.values())
    for row in table.itertuples():
        for side in ("lh", "rh"):
            path = official.roi_path(row.subject, f"{side}.{row.atlas}")
            n_sites = int((nibabel.load(path).get_fdata() == row.label).sum())
            assert getattr(row, side) == n_sites > 0
        assert row.sites == row.lh + row.rh
        assert row.name == (FACES[row.label] if row.atlas == "floc-faces" else "")


def test_a_label_that_a_subject_lacks_has_no_site(damageable: SmallNSD) -> None:
    for side in ("", "lh.", "rh."):
        path = damageable.roi_path(1, f"{side}streams")
        values = nibabel.load(path).get_fdata()
        values[values == 3] = 0
        write_volume(path, values)
    table = label_table_of_atlases(open_dataset(damageable.root), (1, 2))
    streams = table[(table["atlas"] == "streams") & (table["label"] == 3)].set_index("subject")
    assert streams.loc[1, ["lh", "rh", "sites"]].tolist() == [0, 0, 0]
    assert streams.loc[2, "sites"] > 0
    line = next(
        text for text in as_text(table).splitlines() if text.split()[:2] == ["streams", "3"]
    )
    assert line.split()[2] == "-"


def test_of_a_bilateral_file_sides_are_not_known(tmp_path: Path) -> None:
    small = write_small_nsd(tmp_path / "nsd", hemispheres="bilateral")
    table = label_table_of_atlases(open_dataset(small.root), (1,))
    assert table[["lh", "rh"]].isna().all(axis=None)
    first = table.iloc[0]
    assert first["sites"] == (small.labels[1, first["atlas"]] == first["label"]).sum()
    text = as_text(table)
    assert "+" not in text
    assert "both hemispheres together" in text.splitlines()[0]


def test_a_table_fits_into_a_terminal_and_says_what_a_cell_is(official: SmallNSD) -> None:
    table = label_table_of_atlases(open_dataset(official.root), (1, 2, 5))
    whole, narrow = as_text(table), as_text(table, width=50)
    assert whole.splitlines()[0] == ("Number of voxels, left+right; -: the subject lacks the label")
    heads = [line.split() for line in narrow.splitlines() if "subj" in line and "atlas" in line]
    assert [head[:3] for head in heads] == [["atlas", "label", "name"]] * len(heads)
    assert len(heads) > 1
    assert [one for head in heads for one in head[3:]] == ["subj01", "subj02", "subj05"]
    assert max(map(len, narrow.splitlines()[2:])) <= 50
    row = table.iloc[0]
    assert f"{row['lh']}+{row['rh']}" in narrow


def test_subcortical_atlases_have_tables_of_their_own(damageable: SmallNSD) -> None:
    values = np.zeros((5, 8, 6))
    values[0, :3, 0] = 2
    for side, volume in (("lh", values), ("rh", np.roll(values, 2, axis=0))):
        write_volume(damageable.roi_path(1, f"{side}.thalamus"), volume)
    table_file = damageable.root / "nsddata" / "templates" / "thalamus.ctab"
    table_file.parent.mkdir(parents=True)
    table_file.write_text("0 Unknown\n1 LGN\n2 MGN\n")
    table = label_table_of_atlases(open_dataset(damageable.root), (1, 2))
    thalamus = table[table["atlas"] == "thalamus"]
    assert thalamus[["subject", "label", "name", "lh", "rh"]].to_numpy().tolist() == [
        [1, 1, "LGN", 0, 0],
        [1, 2, "MGN", 3, 3],
    ]


def test_a_users_own_atlas_is_among_them(damageable: SmallNSD) -> None:
    for side in ("lh", "rh"):
        write_volume(damageable.roi_path(2, f"{side}.mine"), np.zeros((6, 5, 9)) + (side == "rh"))
    table = label_table_of_atlases(open_dataset(damageable.root), (2,))
    (mine,) = table[table["atlas"] == "mine"].itertuples()
    assert (mine.label, mine.lh, mine.rh) == (1, 0, 6 * 5 * 9)


def test_labels_of_surfaces_are_those_of_vertices(tiny_nsd: Path) -> None:
    table = label_table_of_atlases(open_dataset(tiny_nsd, space="nativesurface"), (2,))
    for side in ("lh", "rh"):
        path = tiny_nsd / f"nsddata/freesurfer/subj02/label/{side}.floc-faces.mgz"
        labels = np.asarray(nibabel.load(path).dataobj).ravel()
        faces = table[table["atlas"] == "floc-faces"].set_index("name")
        for label, name in FACES.items():
            assert faces.loc[name, side] == (labels == label).sum()
    on_fsaverage = label_table_of_atlases(open_dataset(tiny_nsd, space="fsaverage"), (1, 2))
    assert "floc-faces" not in set(on_fsaverage["atlas"])
    assert {"nsdgeneral", "streams"} < set(on_fsaverage["atlas"])


def test_a_dataset_without_labels(damageable: SmallNSD) -> None:
    for path in damageable.root.rglob("roi/*.nii.gz"):
        path.unlink()
    with pytest.raises(MissingFilesError, match="has no region labels of the subjects 1"):
        label_table_of_atlases(open_dataset(damageable.root), (1,))


def test_command_and_notebook(
    official: SmallNSD, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = open_nsd(official.root, cache_dir=tmp_path).atlases()
    assert main(["regions", str(official.root), "--format", "csv"]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    pd.testing.assert_frame_equal(read, expected, check_dtype=False)
    assert main(["regions", str(official.root), "--format", "json", "--subjects", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["subject"] for row in rows} == {2}
    assert main(["regions", str(official.root)]) == 0
    assert "FFA-1" in capsys.readouterr().out
    assert main(["regions", str(official.root), "--subjects", "3"]) == 1
    assert "Subject 3 is not in the dataset" in capsys.readouterr().err
