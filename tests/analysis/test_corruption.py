"""Each kind of file, cut at every 512 bytes and with bits flipped: always found, never silently read."""

from __future__ import annotations

import pytest

from tests.analysis.corruption.bench import bench


def test_damage_of_every_kind_of_file_is_found_and_never_read() -> None:
    found = bench(flips=12, seed=1)
    assert len(found) == 17
    assert {name: (one.unfound, one.wrong) for name, one in found.items() if one.unfound or one.wrong} == {}
    assert all(one.cuts and one.flips for one in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damage_is_found_and_never_read_however_often(seed: int) -> None:
    found = bench(flips=1000, seed=100 + seed)
    assert {name: (one.unfound, one.wrong) for name, one in found.items() if one.unfound or one.wrong} == {}
