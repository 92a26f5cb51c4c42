"""The live page in a real browser, headless: beside a sweep that trains, by keyboard, at two widths, dark and light.

Skipped where no Chromium is installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from browser import CHROMIUM, browser
from served import served_here, settled
from shown_store import HOSTILE, add_runs, plan_runs, run_id, shown_store
from sweep_files import ROOT, python

from analysis.store import Store

pytest.importorskip("uvicorn")
pytest.importorskip("websockets")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

SWEEP = """\
question: Does the page follow?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 16, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 400, batch: 16}
axes:
  optim.lr: [1.0e-3, 1.0e-2]
replicates: 24
"""
DONE = "Number(document.querySelector('#counts progress')?.value)"
NAMES = ("finished", "diverged", "failed", "begun", "waiting")
TALLY = "[...document.querySelectorAll('#counts .tally li b')].map(b => Number(b.textContent.replaceAll(',', '')))"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

WORST_CONTRAST = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = v => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = rgb => .2126 * linear(rgb[0]) + .7152 * linear(rgb[1]) + .0722 * linear(rgb[2]);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const rgb = parse(getComputedStyle(node).backgroundColor);
      if (rgb.length === 3 || rgb[3] > 0) return rgb;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
    if (!text || ['SCRIPT', 'NOSCRIPT', 'OPTION'].includes(node.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < worst[0]) worst = [(a + .05) / (b + .05), text.slice(0, 40)];
  }
  return worst;
})()"""
PLACE = "(b => [b.left, b.top, b.width, b.height])(document.querySelector('.u-over').getBoundingClientRect())"


@pytest.fixture(scope="module")
def tab():
    with browser() as tab:
        yield tab


@pytest.fixture
def fresh(tab):
    """The tab with nothing logged, nothing asked for, light and wide."""
    tab.call("Page.navigate", url="about:blank")
    tab.size(1280)
    tab.scheme("light")
    tab.logged.clear()
    tab.requests.clear()
    return tab


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return shown_store(tmp_path_factory.mktemp("a folder") / "a store").path


@pytest.fixture(scope="module")
def url(path):
    with served_here(path) as url:
        settled(url)
        yield url


def test_the_page_follows_a_sweep_that_trains(tmp_path, fresh):
    """The trainer is stopped for a moment, so that page and command speak of the same one."""
    (tmp_path / "small.yaml").write_text(SWEEP)
    store = tmp_path / "store"
    Store.create(store)
    command = [sys.executable, "-m", "orchestrator.cli", "run", "small.yaml", "--store", str(store), "--width", "4"]
    command += ["--launcher", "inline", "--no-report", "--checkpoint-every", "0.3", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with served_here(store) as url:
        fresh.open(f"{url}/")
        assert "holds no sweep" in fresh.ask("document.body.innerText")
        trainer = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            fresh.wait("location.pathname === '/sweep/small'")  # by itself
            fresh.wait(f"{DONE} >= 4")
            trainer.send_signal(signal.SIGSTOP)
            [status] = json.loads(python("-m", "orchestrator.cli", "status", str(store), "--json").stdout)
            assert 0 < status["done"] < status["planned"] == 48
            fresh.wait(f"JSON.stringify({TALLY}) === '{json.dumps([status[name] for name in NAMES], separators=',:')}'")
            assert fresh.ask(DONE) == status["done"]
            text = fresh.ask("document.body.innerText")
            assert "run-steps/s" in text
            assert "in slots now" in text
            assert "WORKERS AND SLOTS" in text.upper()
            assert len(fresh.ask("[...document.querySelectorAll('#workers td.slots a')].map(a => a.href)")) > 0
            trainer.send_signal(signal.SIGCONT)
            assert trainer.wait(120) == 0, trainer.stderr.read()
            fresh.wait(f"{DONE} === 48")
            fresh.wait("document.body.innerText.includes('All planned runs have ended')")
        finally:
            trainer.kill()
            trainer.wait()
            trainer.stderr.close()
        assert fresh.logged == []
        assert all(each.startswith(url) for each in fresh.requests if each != "about:blank")


@pytest.mark.parametrize("page", ["/sweep/shown", f"/run/{run_id(1)}", f"/run/{run_id(14)}", f"/run/{run_id(19)}"])
def test_the_browser_has_nothing_to_complain_of_and_asks_nobody_else(fresh, url, page):
    fresh.open(url + page)
    fresh.wait("!document.getElementById('tools') || !document.getElementById('tools').hidden")
    assert fresh.logged == []
    assert fresh.requests
    assert all(each.startswith(url) for each in fresh.requests if each != "about:blank")
    assert fresh.ask("document.title") != "owned"


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("page", ["/sweep/shown", f"/run/{run_id(1)}", "/run/nope", f"/run/{run_id(14)}"])
def test_no_page_scrolls_sideways(fresh, url, page, width):
    fresh.size(width)
    fresh.open(url + page)
    assert fresh.ask(OVERFLOW) <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["/sweep/shown", f"/run/{run_id(1)}"])
def test_text_stands_out_from_its_ground(fresh, url, page, scheme):
    """WCAG's contrast of 4.5, of every text on the page."""
    fresh.scheme(scheme)
    fresh.open(url + page)
    worst = fresh.ask(WORST_CONTRAST)
    assert worst[0] >= 4.5, worst


def test_everything_is_reached_by_keyboard(fresh, url):
    fresh.open(f"{url}/run/{run_id(1)}")
    fresh.wait("!document.getElementById('tools').hidden")
    wanted = set(
        fresh.ask("[...document.querySelectorAll('a, button, select, input, summary')].map(e => e.id || e.textContent)")
    )
    reached = set()
    for _ in range(40):
        fresh.press("Tab")
        reached.add(fresh.ask("document.activeElement.id || document.activeElement.textContent"))
        outline = fresh.ask("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or fresh.ask("document.activeElement === document.body")
    assert wanted <= reached


def test_a_curve_is_zoomed_by_mouse_and_by_keyboard(fresh, url):
    fresh.open(f"{url}/run/{run_id(1)}")
    fresh.wait("!document.getElementById('tools').hidden")
    shown = "[Number(chart.dataset.low), Number(chart.dataset.high)]"
    assert fresh.ask(shown) == [0, 599]
    fresh.ask("document.getElementById('zoom-in').focus()")
    fresh.press("Enter")
    fresh.wait(f"JSON.stringify({shown}) === '[150,449]'")
    assert fresh.ask("Number(chart.dataset.points)") in range(300, 304)
    fresh.ask("document.getElementById('whole').click()")
    fresh.wait(f"JSON.stringify({shown}) === '[0,599]'")
    left, top, width, height = fresh.ask(PLACE)
    fresh.drag((left + width / 4, top + height / 2), (left + width / 2, top + height / 2))
    fresh.wait(f"{shown}[0] > 100 && {shown}[1] < 400")
    low, high = fresh.ask(shown)
    assert abs(low - 150) < 10
    assert abs(high - 300) < 10
    for box in ("log-x", "log-y"):
        fresh.ask(f"document.getElementById('{box}').click()")
    fresh.ask("(metric.value = 'accuracy', metric.dispatchEvent(new Event('change')))")
    fresh.wait("caption.textContent.startsWith('accuracy at steps 0 to 599')")
    assert fresh.logged == []


def test_news_leave_the_focus_where_it_was(tmp_path, fresh):
    store = shown_store(tmp_path / "store")
    with served_here(store.path) as url:
        settled(url)
        fresh.open(f"{url}/sweep/shown")
        fresh.ask(f"document.getElementById('r-{run_id(14)}').focus()")
        add_runs(store, [16])
        fresh.wait(f"{DONE} === 17")
        assert fresh.ask("document.activeElement.id") == f"r-{run_id(14)}"
        assert fresh.logged == []


def test_a_server_that_is_gone_is_told(tmp_path, fresh):
    store = Store.create(tmp_path / "store")
    plan_runs(store, planned=4)
    with served_here(store.path) as url:
        fresh.open(f"{url}/sweep/shown")
    fresh.wait("!document.getElementById('connection').hidden")
    assert "has not answered since" in fresh.ask("document.getElementById('connection').textContent")


def test_without_scripts_the_page_says_the_same(fresh, url):
    fresh.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        fresh.open(f"{url}/sweep/shown")
        text = fresh.ask("document.body.innerText")
        assert "16 of 20 runs done" in text
        assert HOSTILE in text  # a setting's value, as it is
        assert "load it again for news" in text
        assert fresh.ask("document.querySelector('time').title") == ""
    finally:
        fresh.call("Emulation.setScriptExecutionDisabled", value=False)
