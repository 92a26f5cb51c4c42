"""A journal that cannot be read stops nobody: what no ledger file names was not committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.store import Store

DAMAGED = {
    "empty": b"",
    "cut short": b'{"block": "20261121T1',
    "not text": b"\x00\xff\x00\xd8",
    "a list": b"[]",
    "a number": b"1",
    "no block": b"{}",
    "a path": json.dumps({"block": "../../eureka", "replaces": []}).encode(),
    "no name": json.dumps({"block": None, "replaces": [3]}).encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_journal_is_settled_by_the_next_writer(tmp_path: Path, content: bytes) -> None:
    store = Store.create(tmp_path / "store")
    (store.path / ".pending").write_bytes(content)
    for part in ("metrics", "digests"):
        (store.path / part / "20261121T101010.000000-0badcafe.parquet").write_bytes(b"half of it")
    with store.locked():
        pass
    assert not (store.path / ".pending").exists()
    assert [path.name for part in ("metrics", "digests") for path in (store.path / part).iterdir()] == []
    assert (store.path / "eureka.json").exists()
