"""The width for a GPU, from probes of devices that are made up here."""

from __future__ import annotations

import json

import pytest
import torch
from small_runs import run

from workloads import capacity
from workloads.capacity import MOST_LANES, Row, capacity_table, known_table

GIB = 2**30


def device(
    *, total: float, fixed: float = GIB, lane: float = GIB / 16, saturates_at: int = 64, steeper_from: int = 999
):
    """A GPU on which speed grows with lanes up to a point, and memory along a line (or a steeper one)."""
    tried: list[int] = []

    def measure(width: int) -> Row:
        tried.append(width)
        used = fixed + lane * width + lane * 20 * max(0, width - steeper_from)
        if used > total:
            raise torch.OutOfMemoryError
        return Row(width, 100.0 * min(width, saturates_at), int(used))

    return measure, tried


def test_widths_double_until_more_gain_little():
    measure, tried = device(total=80 * GIB)
    rows = capacity_table(measure, total_bytes=80 * GIB)
    assert tried == [1, 2, 8, 16, 32, 64, 128]
    assert max(rows, key=lambda row: row.run_steps_per_s).width == 64


def test_widths_that_do_not_fit_are_not_tried():
    measure, tried = device(total=4 * GIB, saturates_at=512)
    capacity_table(measure, total_bytes=4 * GIB)
    assert tried == [1, 2, 8, 16, 32]  # 64 lanes would take 5 GiB


def test_the_third_probe_corrects_the_line():
    measure, tried = device(total=40 * GIB, saturates_at=512, steeper_from=8)
    capacity_table(measure, total_bytes=40 * GIB)
    assert tried == [1, 2, 8, 16, 32]  # the first line would let 512 lanes in


def test_no_width_beyond_the_largest_is_tried():
    measure, tried = device(total=1000 * GIB, saturates_at=10**6)
    capacity_table(measure, total_bytes=1000 * GIB)
    assert tried[-1] == MOST_LANES


@pytest.mark.parametrize(("total", "tried"), [(0.5, [1]), (1.1, [1, 2]), (1.4, [1, 2, 8])])
def test_shapes_that_hardly_fit_get_few_lanes(total, tried):
    measure, found = device(total=total * GIB)
    rows = capacity_table(measure, total_bytes=int(total * GIB))
    assert found == tried
    assert [row.width for row in rows] == (tried[:-1] or [1])


@pytest.fixture
def on_file(monkeypatch, tmp_path):
    """Where the table of a shape is kept, on a machine with a GPU that is made up."""
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "made up")
    path = capacity._path(run(0), torch.device("cuda"))
    path.parent.mkdir()
    return path


def test_a_table_on_file_is_read(on_file):
    on_file.write_text(json.dumps([{"width": w, "run_steps_per_s": s, "bytes": 1} for w, s in ((16, 5.0), (64, 9.0))]))
    assert [row.width for row in known_table(run(1), device=torch.device("cuda"))] == [16, 64]


@pytest.mark.parametrize("text", ["", "[{}]", '[{"width": 1}]', "[1]"])
def test_a_damaged_table_is_measured_again(on_file, text):
    on_file.write_text(text)
    assert known_table(run(0), device=torch.device("cuda")) == []
