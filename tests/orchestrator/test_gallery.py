"""The gallery shows the small sweeps that a store holds, and says how to train the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sweeps import small

from analysis.store import Store
from orchestrator import gallery
from orchestrator.errors import BadRequest
from orchestrator.run import run_sweep


def test_gallery_shows_what_is_stored_and_names_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline")
    monkeypatch.setattr(gallery, "names", lambda: ["absent_small", "small"])
    page = gallery.write_gallery([tmp_path / "store"], tmp_path / "out").read_text()
    absent, stored = page.split('<h2 id="small">')
    assert "Not trained yet: <code>eureka run absent_small</code>." in absent
    assert "Does it train?" in stored
    assert [line.partition(":")[0] for line in stored.splitlines() if line.startswith("<li>")] == [
        "<li>P(eureka by step 60)", "<li>no run had its event</li>", "<li>mean time of a run",
    ]  # fmt: skip
    assert "two_step" not in stored.partition("No run here yet of the tasks ")[2]
    assert "parity" in stored.partition("No run here yet of the tasks ")[2]


def test_what_the_gallery_links_to_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline")
    monkeypatch.setattr(gallery, "names", lambda: ["small"])
    page = gallery.write_gallery([tmp_path / "store"], tmp_path / "out")
    links = [link for link in re.findall(r'(?:href|src)="([^"]*)"', page.read_text()) if not link.startswith("#")]
    assert links == ["small/figures/traces.svg", "small/index.html"]
    assert all((page.parent / link).is_file() for link in links)


def test_large_shipped_sweeps_are_shown_only_where_they_were_trained(tmp_path: Path) -> None:
    Store.create(tmp_path / "store")
    text = gallery.write_gallery([tmp_path / "store"], tmp_path / "out").read_text()
    assert "eureka run parity_small" in text
    assert "eureka run quickstart" not in text


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    Store.create(tmp_path / "store")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match=r"--out: .*file/out: cannot be written"):
        gallery.write_gallery([tmp_path / "store"], tmp_path / "file" / "out")


def test_gallery_knows_every_small_sweep_of_the_package() -> None:
    assert {"parity_small", "window_sum_small", "modular_addition_small"} <= set(gallery.names())
