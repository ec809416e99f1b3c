"""Ranges, and the file that holds them."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsd_prep.core.errors import RemoteFaultError
from nsd_prep.dataset.hdf5.ranges import PIECE_BYTES, Ranges, merged, slices
from nsd_prep.sources.sparse_file import BLOCK_BYTES, SparseFile

CONTENT = np.random.default_rng(0).bytes(5 * BLOCK_BYTES + 17)
pieces = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=20)


def no_fetch(_: Ranges) -> list[tuple[int, bytes]]:
    raise AssertionError("nothing is to be fetched")


class TestMerging:
    @given(pieces=pieces, gap=st.integers(0, 30))
    def test_all_is_covered_and_no_gap_is_longer_than_allowed(
        self, pieces: list[tuple[int, int]], gap: int
    ) -> None:
        starts, lengths = np.array(pieces, dtype=np.int64).reshape(-1, 2).T
        found = merged(starts, lengths, gap)
        wanted = {byte for start, length in pieces for byte in range(start, start + length)}
        covered = {
            byte
            for start, stop in zip(found.starts, found.stops, strict=True)
            for byte in range(start, stop)
        }
        assert wanted <= covered
        assert found.n_bytes == len(covered)
        assert (found.starts[1:] - found.stops[:-1] > gap).all()
        for byte in covered - wanted:  # bridged, from a wanted byte to a wanted byte
            before, after = (
                max(other for other in wanted if other < byte),
                min(other for other in wanted if other > byte),
            )
            assert after - before - 1 <= gap

    def test_long_ranges_are_cut(self) -> None:
        cut = merged(np.array([5]), np.array([2 * PIECE_BYTES + 1])).pieces()
        assert cut == [
            (5, 5 + PIECE_BYTES),
            (5 + PIECE_BYTES, 5 + 2 * PIECE_BYTES),
            (5 + 2 * PIECE_BYTES, 6 + 2 * PIECE_BYTES),
        ]

    @given(pieces=pieces, gap=st.integers(0, 30), n_bytes=st.integers(1, 100))
    def test_slices_hold_all_and_no_more_than_fits(
        self, pieces: list[tuple[int, int]], gap: int, n_bytes: int
    ) -> None:
        starts, lengths = np.array(sorted(pieces), dtype=np.int64).reshape(-1, 2).T
        lengths = np.full_like(lengths, 7)
        chosen = slices(starts, lengths, gap, n_bytes)
        assert [at for part in chosen for at in range(len(starts))[part]] == list(
            range(len(starts))
        )
        for part in chosen:
            assert merged(starts[part], lengths[part], gap).n_bytes <= n_bytes + 7


class TestSparseFile:
    @given(pieces=pieces, reads=pieces)
    def test_it_reads_as_the_file_or_raises(
        self, pieces: list[tuple[int, int]], reads: list[tuple[int, int]]
    ) -> None:
        whole = CONTENT[:320]
        file = SparseFile("name", len(whole), no_fetch)
        for start, length in pieces:
            file.add(start, whole[start : start + length])
        held = {byte for start, length in pieces for byte in range(start, min(start + length, 320))}
        for start, length in reads:
            wanted = set(range(start, min(start + length, 320)))
            file.seek(start)
            if wanted <= held:
                assert file.read(length) == whole[start : start + length]
            else:
                with pytest.raises(OSError, match="were not fetched"):
                    file.read(length)
            missing = {byte for a, b in file.holes(start, start + length) for byte in range(a, b)}
            assert missing == set(range(start, start + length)) - held

    @given(first=pieces, second=pieces)
    def test_what_was_added_can_be_removed(
        self, first: list[tuple[int, int]], second: list[tuple[int, int]]
    ) -> None:
        file = SparseFile("name", 320, no_fetch)
        for start, length in first:
            file.add(start, CONTENT[start : start + length])
        before = file.holes(0, 400)
        keys = [
            key
            for start, length in second
            for key in file.add(start, CONTENT[start : start + length])
        ]
        file.remove(keys)
        assert file.holes(0, 400) == before

    @given(pieces=pieces, ranges=pieces)
    def test_what_is_there_is_not_fetched(
        self, pieces: list[tuple[int, int]], ranges: list[tuple[int, int]]
    ) -> None:
        fetched: set[int] = set()

        def fetch(holes: Ranges) -> list[tuple[int, bytes]]:
            for start, stop in holes:
                assert not fetched & set(range(start, stop))
                fetched.update(range(start, stop))
            return [(start, CONTENT[start:stop]) for start, stop in holes]

        file = SparseFile("name", 400, fetch)
        for start, length in pieces:
            file.add(start, CONTENT[start : start + length])
        held = {byte for start, length in pieces for byte in range(start, start + length)}
        starts, lengths = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
        keys = file.fetch(merged(starts, lengths))
        wanted = {byte for start, length in ranges for byte in range(start, start + length)}
        assert fetched == wanted - held
        buffer = bytearray(10)
        for start in (start for start, length in ranges if length >= 10):
            file.read_into(start, memoryview(buffer))
            assert buffer == CONTENT[start : start + 10]
        file.remove(keys)
        assert {byte for a, b in file.holes(0, 400) for byte in range(a, b)} == (
            set(range(400)) - held
        )

    def test_an_action_is_done_again_until_it_meets_no_hole(self) -> None:
        requests = []

        def fetch(ranges: Ranges) -> list[tuple[int, bytes]]:
            requests.extend(ranges)
            return [(start, CONTENT[start:stop]) for start, stop in ranges]

        file = SparseFile("name", len(CONTENT), fetch)

        def action() -> bytes:
            file.seek(100)
            first = file.read(50)
            file.seek(3 * BLOCK_BYTES)
            return first + file.read(50)

        expected = CONTENT[100:150] + CONTENT[3 * BLOCK_BYTES :][:50]
        for keep, n_bytes in ((False, 2 * BLOCK_BYTES), (True, BLOCK_BYTES), (True, 0)):
            requests.clear()
            assert file.complete(action, keep=keep) == expected
            if n_bytes:
                first, second = (100, 100 + BLOCK_BYTES), (3 * BLOCK_BYTES, 3 * BLOCK_BYTES)
                assert requests == [first, (second[0], second[1] + n_bytes)]
            else:
                assert requests == []

    def test_what_the_network_says_is_raised_outside_of_the_action(self) -> None:
        def fetch(_: Ranges) -> list[tuple[int, bytes]]:
            raise RemoteFaultError("down")

        file = SparseFile("name", 100, fetch)
        with pytest.raises(RemoteFaultError, match="down") as raised:
            file.complete(lambda: file.read(10))
        assert raised.value.__context__ is None

    def test_places(self) -> None:
        file = SparseFile("name", 100, no_fetch)
        assert file.seek(0, io.SEEK_END) == file.tell() == 100
        assert file.read(10) == b""
        assert file.seek(-10, io.SEEK_CUR) == 90
