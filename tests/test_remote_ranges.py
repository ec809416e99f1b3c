"""Ranges, and the file that holds them."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsd_prep.core.errors import RemoteFaultError
from nsd_prep.dataset.hdf5.ranges import PIECE_BYTES, merged
from nsd_prep.sources.link import HIGHEST_CONCURRENCY, LARGEST_GAP, SMALLEST_GAP, Link
from nsd_prep.sources.sparse_file import BLOCK_BYTES, MissingBytesError, SparseFile

CONTENT = np.random.default_rng(0).bytes(5 * BLOCK_BYTES + 17)
pieces = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=20)


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


class TestLink:
    def adapted(self, *, bandwidth: float, latency: float, requests_per_second: float) -> Link:
        """Return what is chosen after some sessions on a simulated link.

        Connections share the bandwidth; a server that answers only so many requests a second lets
        the others wait.
        """
        generator, link = np.random.default_rng(0), Link()
        for _ in range(8):
            n_bytes = generator.exponential(link.gap + 11_000, 700).astype(np.int64)
            queueing = link.concurrency / requests_per_second
            seconds = max(latency, queueing) + n_bytes * link.concurrency / bandwidth
            seconds *= generator.uniform(1, 1.1, 700)
            seconds[0] = latency
            link = link.adapted(n_bytes, seconds)
        return link

    def test_a_slow_link_bridges_short_gaps_with_few_requests_at_once(self) -> None:
        link = self.adapted(bandwidth=100e6 / 8, latency=0.03, requests_per_second=5000)
        assert link == Link(SMALLEST_GAP, 32)

    def test_a_distant_server_is_asked_for_more_at_once(self) -> None:
        link = self.adapted(bandwidth=10e9 / 8, latency=0.15, requests_per_second=5000)
        assert link == Link(LARGEST_GAP, HIGHEST_CONCURRENCY)

    def test_a_server_that_is_slow_to_answer_is_asked_for_longer_ranges(self) -> None:
        link = self.adapted(bandwidth=10e9 / 8, latency=0.01, requests_per_second=500)
        assert link == Link(LARGEST_GAP, 32)

    def test_what_says_nothing_changes_nothing(self) -> None:
        few = np.arange(10)
        same = np.full(100, 1500)
        assert Link().adapted(few, few.astype(float)) == Link()
        assert Link().adapted(same, np.ones(100)) == Link()


class TestSparseFile:
    @given(pieces=pieces, reads=pieces)
    def test_it_reads_as_the_file_or_raises(
        self, pieces: list[tuple[int, int]], reads: list[tuple[int, int]]
    ) -> None:
        whole = CONTENT[:320]
        file = SparseFile("name", len(whole))
        for start, length in pieces:
            file.add(start, whole[start : start + length])
        held = {byte for start, length in pieces for byte in range(start, min(start + length, 320))}
        for start, length in reads:
            wanted = set(range(start, min(start + length, 320)))
            file.seek(start)
            if wanted <= held:
                assert file.read(length) == whole[start : start + length]
            else:
                with pytest.raises(MissingBytesError, match="were not fetched"):
                    file.read(length)
            missing = {byte for a, b in file.holes(start, start + length) for byte in range(a, b)}
            assert missing == set(range(start, start + length)) - held

    @given(first=pieces, second=pieces)
    def test_what_was_added_can_be_removed(
        self, first: list[tuple[int, int]], second: list[tuple[int, int]]
    ) -> None:
        file = SparseFile("name", 320)
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

    def test_holes_are_filled_in_blocks_up_to_a_bound(self) -> None:
        asked = []

        def fetch(start: int, stop: int) -> bytes:
            asked.append((start, stop))
            return CONTENT[start:stop]

        file = SparseFile("name", len(CONTENT), fetch=fetch, allowed_misses=2)
        file.add(100, CONTENT[100:200])
        assert file.read_at(0, 300) == CONTENT[:300]
        assert asked == [(0, 100), (200, 200 + BLOCK_BYTES)]
        assert file.read_at(300, 50) == CONTENT[300:350]
        with pytest.raises(MissingBytesError):
            file.read_at(4 * BLOCK_BYTES, 10)
        assert isinstance(file.error, MissingBytesError)

    def test_blocks_that_follow_each_other_grow_and_the_oldest_are_dropped(self) -> None:
        asked = []

        def fetch(start: int, stop: int) -> bytes:
            asked.append(stop - start)
            return CONTENT[start:stop]

        file = SparseFile("name", len(CONTENT), fetch=fetch, most_bytes=8 * BLOCK_BYTES)
        for start in range(0, len(CONTENT) - 1000, 1000):
            assert file.read_at(start, 1000) == CONTENT[start : start + 1000]
        assert asked == [BLOCK_BYTES, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES]
        small = SparseFile("name", len(CONTENT), fetch=fetch, most_bytes=BLOCK_BYTES)
        for _ in range(2):
            assert small.read_at(0, 10) == CONTENT[:10]
            assert small.read_at(3 * BLOCK_BYTES, 10) == CONTENT[3 * BLOCK_BYTES :][:10]
        assert small.misses == 4

    def test_what_the_network_says_is_kept(self) -> None:
        def fetch(_start: int, _stop: int) -> bytes:
            raise RemoteFaultError("down")

        file = SparseFile("name", 100, fetch=fetch)
        with pytest.raises(RemoteFaultError, match="down"):
            file.read_at(0, 1)
        assert str(file.error) == "down"

    def test_places(self) -> None:
        file = SparseFile("name", 100)
        assert file.seek(0, io.SEEK_END) == file.tell() == 100
        assert file.read(10) == b""
        assert file.seek(-10, io.SEEK_CUR) == 90
