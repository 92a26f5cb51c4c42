"""Hosts for a test, gone after it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Hosts

sys.path.append(str(Path(__file__).parents[1] / "orchestrator"))  # tables.py


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="eureka-lab-") as folder:
        made = Hosts(Path(folder))
        try:
            made.up()
            yield made
        finally:
            made.down()
