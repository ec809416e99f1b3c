"""Responses put together from sessions, against the reference's whole way."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import reference
from library_stages import responses_of
from small_nsd import SESSIONS, STORAGE_FORMS, SmallNSD, write_small_nsd

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.extraction.repetitions import SessionResponses, averaged, repetitions_of_images
from nsd_prep.sources.opening import open_dataset

REGIONS = {name: BUILT_IN_REGIONS[name] for name in ("V1", "V4", "IT")}


def usable(small: SmallNSD, subjects: tuple[int, ...] = tuple(SESSIONS)) -> list[int]:
    """Return the reference's usable images."""
    design = reference.design(small.design_path)
    rows = [
        row
        for subject in subjects
        for row in reference.shared_trials(*design, subject, small.sessions[subject], 24)
    ]
    return reference.usable_images(rows, subjects)


class TestAgainstTheReference:
    @pytest.mark.parametrize("subject", SESSIONS)
    def test_bits_are_the_references(self, small: SmallNSD, subject: int, tmp_path: Path) -> None:
        nsd_ids = usable(small)
        found = responses_of(open_dataset(small.root), subject, REGIONS, nsd_ids, tmp_path)
        for name, definition in REGIONS.items():
            ((volume, labels),) = definition.labels.items()
            expected = reference.responses(small, subject, volume, labels, nsd_ids)
            assert found[name].dtype == np.float32
            assert np.array_equal(found[name], expected), name
            assert np.array_equal(averaged(found[name]), expected.mean(axis=1))

    @pytest.mark.parametrize("storage", STORAGE_FORMS)
    def test_in_every_storage_form(self, tmp_path: Path, storage: str) -> None:
        layout = "flat" if "chunks" in storage else "official"
        small = write_small_nsd(tmp_path / "nsd", seed=3, layout=layout, storage=storage)
        nsd_ids = usable(small)
        dataset = open_dataset(small.root)
        found = responses_of(dataset, 5, {"V1": REGIONS["V1"]}, nsd_ids, tmp_path / "store")
        expected = reference.responses(small, 5, "prf-visualrois", (1, 2), nsd_ids)
        assert np.array_equal(found["V1"], expected)

    def test_within_1e_5_of_the_same_in_float64(self, small: SmallNSD, tmp_path: Path) -> None:
        nsd_ids = usable(small)
        found = responses_of(open_dataset(small.root), 2, REGIONS, nsd_ids, tmp_path)
        exact = reference.responses(small, 2, "streams", (5,), nsd_ids, dtype=np.float64)
        assert np.abs(found["IT"] - exact).max() < 1e-5
        assert np.abs(averaged(found["IT"]) - exact.mean(axis=1)).max() < 1e-5

    def test_an_invalid_voxel_enters_the_mean_as_0(self, small: SmallNSD, tmp_path: Path) -> None:
        nsd_ids = usable(small, (1,))
        found = responses_of(open_dataset(small.root), 1, REGIONS, nsd_ids, tmp_path)["V1"]
        in_v1 = reference.region_mask(small.roi_path(1, "prf-visualrois"), (1, 2))
        order = [tuple(item[::-1]) for item in np.argwhere(in_v1).tolist()]
        assert (found[:, :, order.index(small.dead[1])] == 0).all()
        invalid = found[:, :, order.index(small.invalid[1])]
        rows = reference.shared_trials(*reference.design(small.design_path), 1, 4, 24)
        for row in rows:
            response = invalid[nsd_ids.index(row["nsd_id"]), row["repetition"]]
            assert (response == 0) == (row["session"] == 2)


class TestFilling:
    def sessions(self) -> list[SessionResponses]:
        """Return two sessions that show the images 4 and 9 three times, and 6 once."""
        return [
            SessionResponses(
                session=1,
                responses=np.array([[1.0], [2.0], [3.0]], dtype=np.float32),
                nsd_id=np.array([4, 9, 4]),
                repetition=np.array([0, 0, 1]),
            ),
            SessionResponses(
                session=2,
                responses=np.array([[4.0], [5.0], [6.0], [7.0]], dtype=np.float32),
                nsd_id=np.array([6, 4, 9, 9]),
                repetition=np.array([0, 2, 1, 2]),
            ),
        ]

    def test_each_trial_goes_to_its_image_and_repetition(self) -> None:
        responses = repetitions_of_images(self.sessions(), np.array([4, 9]), n_voxels=1)
        assert responses[:, :, 0].tolist() == [[1, 3, 5], [2, 6, 7]]

    def test_sessions_in_any_order(self) -> None:
        responses = repetitions_of_images(self.sessions()[::-1], np.array([4, 9]), n_voxels=1)
        assert responses[:, :, 0].tolist() == [[1, 3, 5], [2, 6, 7]]

    def test_fewer_images(self) -> None:
        responses = repetitions_of_images(iter(self.sessions()), np.array([9]), n_voxels=1)
        assert responses[:, :, 0].tolist() == [[2, 6, 7]]

    def test_a_repetition_that_is_missing(self) -> None:
        with pytest.raises(InputFileError) as raised:
            repetitions_of_images(self.sessions(), np.array([4, 6, 9]), n_voxels=1)
        message = str(raised.value)
        assert "repetition 1 (0-based) of nsd_id 6 was filled 0 times" in message
        assert "2 of 9" in message

    def test_a_repetition_that_comes_twice(self) -> None:
        twice = [*self.sessions(), self.sessions()[0]]
        with pytest.raises(InputFileError, match=r"repetition 0 .* of nsd_id 4 was filled 2 times"):
            repetitions_of_images(twice, np.array([4, 9]), n_voxels=1)

    def test_a_repetition_that_comes_twice_within_a_session(self) -> None:
        first, second = self.sessions()
        doubled = first._replace(repetition=np.array([0, 0, 0]))
        with pytest.raises(InputFileError, match=r"nsd_id 4 was filled 2 times"):
            repetitions_of_images([doubled, second], np.array([4, 9]), n_voxels=1)

    def test_the_mean_is_taken_in_float32(self) -> None:
        responses = np.random.default_rng(1).normal(size=(40, 3, 50)).astype(np.float32)
        mean = averaged(responses)
        assert mean.dtype == np.float32
        for image in range(40):
            one, two, three = responses[image]
            assert np.array_equal(mean[image], (one + two + three) / np.float32(3))

    def test_sites_without_data_do_not_warn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Filters of warnings belong to the process: another thread may undo what this one sets."""
        responses = np.random.default_rng(0).normal(size=(40, 3, 50)).astype(np.float32)
        responses[3, 1, 4] = responses[:, :, 7] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.nanmean(responses, axis=1)
            warnings.simplefilter("error")
            monkeypatch.setattr(warnings, "filterwarnings", lambda *_, **__: None)
            assert np.array_equal(averaged(responses), expected, equal_nan=True)
