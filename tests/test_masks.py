"""Masks of a subject's regions, against the reference's and against what each file holds."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import reference
from small_nsd import GRIDS, SESSIONS, SmallNSD, write_small_nsd, write_volume

from nsd_prep.core.errors import InputFileError, MissingFilesError, ParameterError
from nsd_prep.dataset.masks import labels_that_are_nowhere, read_bilateral_volume, select_voxels
from nsd_prep.dataset.regions import BUILT_IN_REGIONS, RegionDefinition
from nsd_prep.sources.opening import open_dataset

REGIONS = {name: BUILT_IN_REGIONS[name] for name in ("V1", "V4", "IT", "nsdgeneral")}


def region(hemisphere: str | None = None, **labels: tuple[int | str, ...]) -> RegionDefinition:
    """Return a definition; underscores in volumes' names stand for dashes."""
    dashed = {volume.replace("_", "-"): item for volume, item in labels.items()}
    return RegionDefinition(labels=dashed, hemisphere=hemisphere)


class TestSelection:
    @pytest.mark.parametrize("subject", SESSIONS)
    def test_voxels_are_the_references(self, small: SmallNSD, small_dataset, subject: int) -> None:
        selection = select_voxels(small_dataset, subject, REGIONS)
        assert selection.space.shape == GRIDS[subject][::-1]
        for name, definition in REGIONS.items():
            ((volume, labels),) = definition.labels.items()
            mask = reference.region_mask(small.roi_path(subject, volume), labels)
            assert np.array_equal(selection.regions[name], np.flatnonzero(mask)), name
            assert selection.regions[name].dtype == np.int64

    def test_a_voxel_has_the_label_at_its_nifti_indices(
        self, small: SmallNSD, small_dataset
    ) -> None:
        voxels = select_voxels(small_dataset, 2, REGIONS).regions["V4"].tolist()
        n_x, n_y, _ = GRIDS[2]
        found = {(v % n_x, v // n_x % n_y, v // n_x // n_y) for v in voxels}
        assert found == set(map(tuple, np.argwhere(small.labels[2, "prf-visualrois"] == 7)))

    def test_regions_of_different_volumes_share_voxels(self, small_dataset) -> None:
        regions = select_voxels(small_dataset, 1, REGIONS).regions
        assert len(np.intersect1d(regions["V4"], regions["IT"])) > 0

    @pytest.mark.parametrize("hemispheres", ["bilateral", "each"])
    def test_either_kind_of_file_gives_the_same_voxels(
        self, tmp_path: Path, official: SmallNSD, hemispheres: str
    ) -> None:
        write_small_nsd(tmp_path / "nsd", hemispheres=hemispheres)
        with_all = select_voxels(open_dataset(official.root), 5, REGIONS).regions
        with_one_kind = select_voxels(open_dataset(tmp_path / "nsd"), 5, REGIONS).regions
        for name in REGIONS:
            assert np.array_equal(with_one_kind[name], with_all[name])

    def test_one_hemisphere_beside_the_bilateral_volume(self, damageable: SmallNSD) -> None:
        damageable.roi_path(1, "rh.streams").unlink()
        labels = read_bilateral_volume(open_dataset(damageable.root), 1, "streams")
        assert np.array_equal(labels.labels.values.T, damageable.labels[1, "streams"])

    def test_a_region_confined_to_a_hemisphere(self, small: SmallNSD, small_dataset) -> None:
        definitions = {
            "left": region("lh", prf_visualrois=(1, 2)),
            "right": region("rh", prf_visualrois=(1, 2)),
            "V1": BUILT_IN_REGIONS["V1"],
        }
        regions = select_voxels(small_dataset, 5, definitions).regions
        mask = reference.region_mask(small.roi_path(5, "lh.prf-visualrois"), (1, 2))
        assert np.array_equal(regions["left"], np.flatnonzero(mask))
        assert len(np.intersect1d(regions["left"], regions["right"])) == 0
        assert np.array_equal(np.union1d(regions["left"], regions["right"]), regions["V1"])

    def test_a_region_of_two_volumes_holds_each_voxel_once(
        self, small: SmallNSD, small_dataset
    ) -> None:
        both = {"both": region(prf_visualrois=(7,), streams=(5, 6))}
        v4 = reference.region_mask(small.roi_path(1, "prf-visualrois"), (7,))
        streams = reference.region_mask(small.roi_path(1, "streams"), (5, 6))
        voxels = select_voxels(small_dataset, 1, both).regions["both"]
        assert np.array_equal(voxels, np.flatnonzero(v4 | streams))


class TestMTLAndThalamus:
    """They have 0 outside, int16 values, and their names among the templates."""

    @pytest.fixture(params=["MTL", "thalamus"])
    def volume(self, request: pytest.FixtureRequest, damageable: SmallNSD) -> str:
        """Write a volume of both hemispheres and of each, as NSD's are; return its name."""
        name = str(request.param)
        left, right = (np.zeros(GRIDS[1], np.int16) for _ in range(2))
        left[0, 1, 2], left[0, 2, 2], right[3, 1, 2] = 2, 1, 2
        for side, values in {"": left + right, "lh.": left, "rh.": right}.items():
            write_volume(damageable.roi_path(1, f"{side}{name}"), values)
        table = damageable.root / "nsddata" / "templates" / f"{name}.ctab"
        table.parent.mkdir(exist_ok=True)
        table.write_text("0 Unknown\n1 ERC 10 20 30 0\n2 DG 1 2 3 0\n")
        return name

    def test_are_regions_by_number_and_by_name(self, damageable: SmallNSD, volume: str) -> None:
        definitions = {
            "by-number": RegionDefinition(labels={volume: (2,)}),
            "by-name": RegionDefinition(labels={volume: ("DG",)}),
            "left": RegionDefinition(labels={volume: ("DG",)}, hemisphere="lh"),
        }
        regions = select_voxels(open_dataset(damageable.root), 1, definitions).regions
        mask = reference.region_mask(damageable.roi_path(1, volume), (2,))
        assert np.array_equal(regions["by-number"], np.flatnonzero(mask))
        assert np.array_equal(regions["by-name"], regions["by-number"])
        assert (len(regions["by-name"]), len(regions["left"])) == (2, 1)

    def test_hemispheres_that_share_a_label_are_refused(
        self, damageable: SmallNSD, volume: str
    ) -> None:
        left = damageable.roi_path(1, f"lh.{volume}").read_bytes()
        damageable.roi_path(1, f"rh.{volume}").write_bytes(left)
        with pytest.raises(InputFileError, match="subject 1 overlap in 2 voxels"):
            read_bilateral_volume(open_dataset(damageable.root), 1, volume)


class TestLabelNames:
    def test_names_choose_what_their_numbers_do(self, official: SmallNSD) -> None:
        dataset = open_dataset(official.root)
        definitions = {
            "by-name": region(floc_faces=("FFA-2", "FFA-1")),
            "by-number": region(floc_faces=(2, 3)),
        }
        regions = select_voxels(dataset, 2, definitions).regions
        assert np.array_equal(regions["by-name"], regions["by-number"])

    def test_a_name_that_the_table_lacks(self, official: SmallNSD) -> None:
        with pytest.raises(ParameterError) as raised:
            select_voxels(open_dataset(official.root), 2, {"PPA": region(floc_faces=("PPA",))})
        message = str(raised.value)
        assert "region PPA" in message
        assert str(official.label_table_path(2, "floc-faces")) in message
        assert "Unknown, OFA, FFA-1, FFA-2, mTL-faces, aTL-faces" in message

    def test_a_name_where_the_table_is_missing(self, official: SmallNSD) -> None:
        with pytest.raises(ParameterError, match=r"early of streams.*is not there.*numbers"):
            select_voxels(open_dataset(official.root), 2, {"one": region(streams=("early",))})

    def test_a_name_in_the_flat_layout(self, tmp_path: Path) -> None:
        write_small_nsd(tmp_path / "nsd", layout="flat")
        with pytest.raises(ParameterError, match=r"flat layout has no label tables.*numbers"):
            select_voxels(open_dataset(tmp_path / "nsd"), 2, {"F": region(floc_faces=("OFA",))})


class TestBadVolumes:
    def test_hemispheres_that_disagree_with_the_bilateral_volume(
        self, damageable: SmallNSD
    ) -> None:
        right = np.where(np.arange(5)[:, None, None] < 2.5, -1, damageable.labels[1, "streams"])
        changed = right.copy()
        where = tuple(np.argwhere(right == 5)[0])
        changed[where] = 6
        write_volume(damageable.roi_path(1, "rh.streams"), changed)
        with pytest.raises(InputFileError) as raised:
            select_voxels(open_dataset(damageable.root), 1, REGIONS)
        message = str(raised.value)
        assert "subject 1 disagree" in message
        assert "in 1 voxel: " in message
        for name in ("streams", "lh.streams", "rh.streams"):
            assert str(damageable.roi_path(1, name)) in message

    def test_a_bilateral_volume_that_is_mirrored(self, damageable: SmallNSD) -> None:
        mirrored = damageable.labels[2, "prf-visualrois"][::-1]
        write_volume(damageable.roi_path(2, "prf-visualrois"), mirrored)
        with pytest.raises(InputFileError, match="disagree with the bilateral volume"):
            select_voxels(open_dataset(damageable.root), 2, REGIONS)

    def test_a_bilateral_volume_on_another_grid(self, damageable: SmallNSD) -> None:
        other = np.swapaxes(damageable.labels[2, "streams"], 0, 1)
        write_volume(damageable.roi_path(2, "streams"), other)
        with pytest.raises(InputFileError, match="lie in different spaces"):
            select_voxels(open_dataset(damageable.root), 2, REGIONS)

    def test_hemispheres_on_different_grids(self, damageable: SmallNSD) -> None:
        other = np.swapaxes(damageable.labels[2, "streams"], 0, 1)
        write_volume(damageable.roi_path(2, "lh.streams"), other)
        with pytest.raises(InputFileError) as raised:
            select_voxels(open_dataset(damageable.root), 2, REGIONS)
        assert "(9, 6, 5)" in str(raised.value)
        assert "(9, 5, 6)" in str(raised.value)

    def test_hemispheres_that_overlap(self, damageable: SmallNSD) -> None:
        write_volume(damageable.roi_path(5, "lh.streams"), damageable.labels[5, "streams"])
        with pytest.raises(InputFileError, match=r"subject 5 overlap in \d+ voxels"):
            select_voxels(open_dataset(damageable.root), 5, REGIONS)

    def test_volumes_of_one_subject_on_different_grids(self, damageable: SmallNSD) -> None:
        for side in ("lh.", "rh."):
            damageable.roi_path(1, f"{side}streams").unlink()
        write_volume(damageable.roi_path(1, "streams"), damageable.labels[2, "streams"])
        with pytest.raises(InputFileError) as raised:
            select_voxels(open_dataset(damageable.root), 1, REGIONS)
        message = str(raised.value)
        assert re.search(r"streams\.nii\.gz in that of .*prf-visualrois\.nii\.gz", message)
        assert "(Z, Y, X) = (9, 5, 6) in place of (6, 8, 5)" in message

    def test_a_volume_in_another_space(self, damageable: SmallNSD) -> None:
        path = damageable.roi_path(1, "lh.streams")
        image = nibabel.load(path)
        affine = image.affine + np.eye(4) * [[0], [0], [1.8], [0]] @ np.ones((4, 1)) * [0, 0, 0, 1]
        nibabel.save(nibabel.Nifti1Image(image.get_fdata(), affine), path)
        with pytest.raises(InputFileError, match=r"different spaces.*differs by up to 1.8 mm"):
            select_voxels(open_dataset(damageable.root), 1, REGIONS)

    def test_all_that_is_missing_is_named(self, damageable: SmallNSD) -> None:
        for name in ("streams", "lh.streams"):
            damageable.roi_path(1, name).unlink()
        with pytest.raises(MissingFilesError) as raised:
            select_voxels(open_dataset(damageable.root), 1, REGIONS)
        message = str(raised.value)
        assert str(damageable.roi_path(1, "streams")) in message
        assert str(damageable.roi_path(1, "lh.streams")) in message
        assert str(damageable.roi_path(1, "rh.streams")) not in message
        assert "subject 1" in message

    def test_a_missing_hemisphere_of_a_confined_region(self, damageable: SmallNSD) -> None:
        damageable.roi_path(1, "lh.streams").unlink()
        with pytest.raises(MissingFilesError) as raised:
            select_voxels(open_dataset(damageable.root), 1, {"left": region("lh", streams=(5,))})
        assert str(damageable.roi_path(1, "lh.streams")) in str(raised.value)

    def test_a_truncated_volume(self, damageable: SmallNSD) -> None:
        path = damageable.roi_path(1, "lh.streams")
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputFileError) as raised:
            select_voxels(open_dataset(damageable.root), 1, REGIONS)
        assert str(path) in str(raised.value)


class TestEmptyRegions:
    def test_a_region_that_is_empty_names_the_labels_that_are_there(
        self, small: SmallNSD, small_dataset
    ) -> None:
        with pytest.raises(ParameterError) as raised:
            select_voxels(small_dataset, 2, {"V1": REGIONS["V1"], "empty": region(streams=(8, 9))})
        message = str(raised.value)
        assert "region empty is empty in subject 2" in message
        held = "holds none of its labels 8, 9, but 1, 2, 3, 4, 5, 6, 7"
        assert f"{small.roi_path(2, 'streams')} {held}" in message

    def test_labels_by_name_are_given_with_their_numbers(self, damageable: SmallNSD) -> None:
        table = damageable.label_table_path(2, "floc-faces")
        table.write_text(table.read_text() + "77 nowhere\n")
        named = region(floc_faces=("nowhere",))
        with pytest.raises(ParameterError, match=r"of its labels nowhere \(number 77\), but 1"):
            select_voxels(open_dataset(damageable.root), 2, {"none": named})

    def test_a_label_that_no_subject_has(self, small_dataset) -> None:
        definitions = {"V1": REGIONS["V1"], "one": region(streams=(5, 11, 12))}
        selections = [select_voxels(small_dataset, subject, definitions) for subject in (5, 1)]
        first, second = labels_that_are_nowhere(selections)
        assert "label 11 of the region one does not exist" in first
        assert "streams" in first
        assert "label 12 of the region one does not exist" in second

    def test_a_label_that_one_subject_has_is_somewhere(self, damageable: SmallNSD) -> None:
        labels = damageable.labels[2, "streams"].copy()
        labels[tuple(np.argwhere(labels == 5)[0])] = 11
        for side in ("lh.", "rh."):
            damageable.roi_path(2, f"{side}streams").unlink()
        write_volume(damageable.roi_path(2, "streams"), labels)
        definitions = {"one": region(streams=(5, 11))}
        dataset = open_dataset(damageable.root)
        item = {subject: select_voxels(dataset, subject, definitions) for subject in (1, 2, 5)}
        assert labels_that_are_nowhere(item.values()) == []
        assert len(labels_that_are_nowhere([item[1], item[5]])) == 1
