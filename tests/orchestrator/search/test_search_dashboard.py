"""`optuna-dashboard` opens the study of a search, in a real browser, while another process drives it or none does."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import CHROMIUM, PATIENCE_S, browser
from searches import small_search

from orchestrator.run import run_sweep

DASHBOARD = Path(sys.executable).with_name("optuna-dashboard")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.skipif(not DASHBOARD.exists(), reason="optuna-dashboard is not installed"),
]


@contextmanager
def dashboard(study: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(DASHBOARD), str(study), "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{url}/api/studies", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "optuna-dashboard ended"
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def test_the_dashboard_shows_a_searchs_study(tmp_path: Path) -> None:
    run_sweep(small_search(tmp_path), store_path=tmp_path / "store", launcher="inline")
    with dashboard(tmp_path / "store" / "sweeps" / "small" / "study.journal") as url, browser() as tab:
        tab.size(1400, 2000)
        tab.open(f"{url}/dashboard/studies/0")
        tab.wait("document.body.innerText.includes('Best Trial')")
        tab.wait("document.querySelectorAll('.js-plotly-plot').length >= 3")
        text = tab.ask("document.body.innerText")
        for word in ("small", "p_eureka", "model.width", "optim.lr"):
            assert word in text
        tab.open(f"{url}/dashboard/studies/0/trials")
        tab.wait("document.body.innerText.includes('Trial 5') || document.body.innerText.includes('config_id')")
