"""The live page as programs see it: what it says agrees with the command, and it gives nothing else away."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from served import counts, eventually, got, served, served_here, settled
from shown_store import HOSTILE, STEPS, add_runs, plan_runs, run_id, shown_store, values_of

pytest.importorskip("uvicorn")

from analysis.files import write_json
from analysis.store import Store
from analysis.upkeep import compact
from orchestrator import published
from orchestrator.cli import cli
from orchestrator.progress import Snapshot
from orchestrator.published import PublishedView
from orchestrator.serve.curves import Curve


def status_of(path) -> list[dict]:
    found = CliRunner().invoke(cli, ["status", str(path), "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("a folder") / "a store"
    shown_store(path)
    return path


@pytest.fixture(scope="module")
def url(path):
    with served_here(path) as url:
        settled(url)
        yield url


# -- what it says --------------------------------------------------------------------------------


def test_counts_are_those_of_the_status_command(path, url):
    [found] = counts(url)
    assert [found] == status_of(path)
    assert (found["done"], found["waiting"], found["failed"], found["diverged"]) == (16, 4, 2, 2)
    assert found["detected"]["eureka"] > 0


def test_the_page_says_them_without_a_script(url):
    text = got(url, "/sweep/shown")[2]
    assert "<b>16</b> of 20 runs done (80%)" in text
    for line in ("<b>12</b> finished", "<b>2</b> diverged", "<b>2</b> failed", "<b>4</b> waiting"):
        assert line in text
    assert "6 eureka" in text


def test_the_config_table_is_the_reports(path, url):
    from analysis.estimate import config_table
    from analysis.labels import estimate_text
    from analysis.study import open_study

    study = open_study(Store(path), sweep="shown")
    table = config_table(study.events, axes=study.axes, at_step=STEPS, planned=study.planned_cells)
    body = got(url, "/sweep/shown")[2].split('id="config-rows"')[1].split("</table>")[0]
    rows = [re.sub(r"<[^>]+>", "|", row) for row in body.split("<tr>")[2:]]
    assert len(rows) == len(table) == 4
    for row, expected in zip(rows, table.iter_rows(named=True), strict=True):
        assert f"|{expected['eureka']} / {expected['n']}|" in row
        assert estimate_text(expected["chance"], expected["chance_lo"], expected["chance_hi"]) in row
    assert any("1.00 [" in row for row in rows)


def test_failures_come_with_their_reason(url):
    text = got(url, "/sweep/shown")[2]
    assert "<b>2 ×</b> ValueError: &lt;script&gt;" in text
    page = got(url, f"/run/{run_id(14)}")[2]
    assert "Traceback (most recent call last):\nValueError: &lt;script&gt;" in page


def test_runs_that_come_are_read_and_old_files_are_not_read_again(tmp_path, monkeypatch):
    from orchestrator.serve import ledger

    store, seen = shown_store(tmp_path / "store"), []
    read = ledger.read_parquet
    monkeypatch.setattr(ledger, "read_parquet", lambda path, **how: seen.append(path.name) or read(path, **how))
    with served_here(store.path) as url:
        before = settled(url)
        old = set(seen)
        assert len(old) == 4
        seen.clear()
        add_runs(store, [16, 17])
        eventually(url, lambda found: found[0]["done"] == 18 and sum(found[0]["detected"].values()) == 18)
        assert before != settled(url) == status_of(store.path)
        assert set(seen).isdisjoint(old)
        assert run_id(17)[:10] in got(url, "/sweep/shown")[2].split('id="newest-runs"')[1].split("</tr>")[1]


def test_a_merge_and_runs_that_are_given_another_try_are_followed(tmp_path):
    store = shown_store(tmp_path / "store")
    with served_here(store.path) as url:
        before = settled(url)
        compact(store)
        assert settled(url) == before == status_of(store.path)
        assert got(url, f"/run/{run_id(3)}")[0] == 200
        Store(store.path).forget_failed([run_id(14), run_id(15)])
        eventually(url, lambda found: found[0]["done"] == 14)
        add_runs(Store(store.path), [14, 15])
        eventually(url, lambda found: found[0]["done"] == 16)
        [found] = settled(url)
        assert [found] == status_of(store.path)
        assert (found["failed"], found["detected"].get("failed", 0)) == (0, 0)


def test_an_empty_store_says_so_and_waits_for_runs(tmp_path):
    store = Store.create(tmp_path / "store")
    with served_here(store.path) as url:
        status, _, text = got(url)
        assert status == 200
        assert "holds no sweep" in text
        assert counts(url) == []
        plan_runs(store, planned=4)
        add_runs(store, [0, 1])
        eventually(url, lambda found: [one["done"] for one in found] == [2])
        assert got(url)[1]["location"] == "/sweep/shown"


def test_a_store_that_takes_long_to_read_says_so_meanwhile(tmp_path, monkeypatch):
    from orchestrator.serve import live

    store, may_read = shown_store(tmp_path / "store"), threading.Event()
    look = live.Live.look
    monkeypatch.setattr(live.Live, "look", lambda self: (may_read.wait(30), look(self))[1])
    monkeypatch.setattr(live.Live.news, "__kwdefaults__", {"first_s": 0.01})
    with served_here(store.path) as url:
        for page in ("/", "/sweep/shown", f"/run/{run_id(1)}"):
            status, _, text = got(url, page)
            assert (status, "Reading the store" in text) == (200, True)
        may_read.set()
        settled(url)
        assert "<b>16</b> of 20" in got(url, "/sweep/shown")[2]


def test_several_sweeps_are_listed_and_each_has_its_own_runs(tmp_path):
    store = shown_store(tmp_path / "store")
    plan_runs(store, planned=4, name="few", question="Few?")
    with served_here(store.path) as url:
        found = settled(url)
        assert found == status_of(store.path)
        assert {one["sweep"]: one["done"] for one in found} == {"shown": 16, "few": 4}
        text = got(url)[2]
        assert 'href="/sweep/few"' in text
        assert 'href="/sweep/shown"' in text


def test_a_damaged_ledger_file_is_named_and_the_rest_is_shown(tmp_path):
    store = shown_store(tmp_path / "store")
    victim = store.runs_path(store.blocks()[0])
    victim.write_bytes(b"nothing")
    with served_here(store.path) as url:
        eventually(url, lambda found: [one["done"] for one in found] == [10])
        assert f"{victim.name}: not readable" in got(url, "/sweep/shown")[2]


# -- one run -------------------------------------------------------------------------------------


def points(url: str, number: int, **query: object) -> dict:
    words = "&".join(f"{key}={value}" for key, value in query.items())
    status, _, text = got(url, f"/run/{run_id(number)}/curve.json?{words}")
    assert status == 200, text
    return json.loads(text)


def test_a_zoom_shows_the_stored_values_and_the_whole_their_extremes(url):
    loss = values_of(1, STEPS)["loss"]
    near = points(url, 1, low=90, high=110, columns=800)["curve"]
    assert near["step"] == list(range(89, 112))
    np.testing.assert_allclose(near["value"], loss[89:112], rtol=1e-6)
    far = points(url, 1, columns=20)
    assert len(far["curve"]["step"]) <= 2 * 20 + 2
    assert max(far["curve"]["value"]) == 7.0  # the spike of one step
    assert len(far["digest"]["step"]) > 20
    assert max(far["digest"]["value"]) < 1.1  # a median does not see it
    assert 240 < far["marks"]["eureka_step"] < 262


def test_a_window_keeps_each_columns_lowest_and_highest():
    rng = np.random.default_rng(0)
    whole = Curve(np.arange(100_000), rng.normal(size=100_000))
    part = whole.window(low=1000, high=81_000, columns=80)
    kept = dict(zip(part.step.tolist(), part.value.tolist(), strict=True))
    assert len(kept) <= 2 * 80 + 2
    for first in range(1000, 80_000, 1000):
        inside = whole.value[first : first + 1000]
        assert {inside.argmin() + first, inside.argmax() + first} <= kept.keys()
    assert all(whole.value[step] == value for step, value in kept.items())


def test_a_run_is_found_by_its_first_digits(url):
    assert got(url, "/run/01")[1]["location"] == f"/run/{run_id(1)}"
    status, _, text = got(url, "/run/0")  # several begin so
    assert status == 404
    assert "or several do" in text


def test_a_run_that_has_not_ended_has_a_page(url):
    status, _, text = got(url, f"/run/{run_id(19)}")
    assert status == 200
    assert "Planned, and not ended" in text


def test_a_run_under_way_shows_its_saved_curve(tmp_path):
    store = shown_store(tmp_path / "store")
    history = np.linspace(1, 0.5, 40, dtype=np.float32).reshape(-1, 1)
    store.checkpoints.save("c0ffee", {run_id(18): {"step": np.array(40), "history": history}})
    with served_here(store.path) as url:
        [found] = settled(url)
        assert (found["begun"], found["waiting"]) == (1, 3)
        assert [found] == status_of(store.path)
        text = got(url, f"/run/{run_id(18)}")[2]
        assert "saved at step 40" in text
        assert "<polyline" in text


# -- tables --------------------------------------------------------------------------------------


def shown_runs(url: str, query: str) -> list[str]:
    body = got(url, f"/sweep/shown?{query}")[2].split('id="run-rows"')[1]
    return re.findall(r'id="r-([0-9a-f]+)"', body)


def test_runs_are_filtered_on_the_server(url):
    eureka = shown_runs(url, "status=eureka")
    assert sorted(eureka) == [run_id(n) for n in (1, 3, 5, 7, 9, 11)]
    assert sorted(shown_runs(url, "status=failed")) == [run_id(14), run_id(15)]
    assert shown_runs(url, "run=0a") == [run_id(10)]
    assert sorted(shown_runs(url, "axis%3Aoptim.lr=0.001&status=eureka")) == [run_id(n) for n in (3, 7, 11)]
    assert shown_runs(url, "axis%3Aoptim.lr=nonsense") == []
    assert len(shown_runs(url, "status=nonsense&sort=nonsense&page=-4")) == 16


def test_runs_are_sorted_on_the_server(url):
    by_event = shown_runs(url, "sort=event")[:6]
    assert by_event == [run_id(n) for n in (1, 3, 5, 7, 9, 11)]  # they fall at 250 plus their number
    assert set(shown_runs(url, "sort=loss")[:6]) == {run_id(n) for n in (1, 3, 5, 7, 9, 11)}


def test_long_tables_come_in_pages(tmp_path):
    store = Store.create(tmp_path / "store")
    plan_runs(store, planned=120)
    add_runs(store, list(range(120)))
    with served_here(store.path) as url:
        settled(url)
        first, third = got(url, "/sweep/shown?sort=run")[2], shown_runs(url, "sort=run&page=3")
        assert "Showing 50 of 120 runs" in first
        assert third == [run_id(number) for number in range(100, 120)]
        assert shown_runs(url, "sort=run&page=99") == third


# -- what it knows of the running command --------------------------------------------------------


def test_pace_and_time_left_are_those_of_the_running_command(tmp_path):
    store = shown_store(tmp_path / "store")
    view = PublishedView("shown", store_path=str(store.path), quiet=True)
    view.start(4, 16, "about 2 min")
    store.save_cohort("shown", "c0ffee", {"members": [{}, {}, {}, {}], "width": 2, "device": "cpu"})
    with served_here(store.path) as url:
        settled(url)
        assert "about 2 min, planned" in got(url, "/sweep/shown")[2]
        view._written_at = float("-inf")
        view.update(Snapshot(running=2, waiting=2, run_steps_per_s=1234.4, seconds_left=65.0, note="1 worker lost"))
        text = got(url, "/sweep/shown")[2]
        for part in ("<b>1,234</b> run-steps/s", "about <b>1 min 05 s</b> left", "<b>2</b> in slots", "1 worker lost"):
            assert part in text
        assert "<code>c0ffee</code>" in text
        view.stop()
        assert "Nobody trains it now" in got(url, "/sweep/shown")[2]
    assert not (store.sweep_dir("shown") / published.FILE).exists()


def test_a_command_that_was_killed_is_told_from_one_that_trains(tmp_path):
    store = shown_store(tmp_path / "store")
    folder = store.sweep_dir("shown")
    view = PublishedView("shown", store_path=str(store.path), quiet=True)
    view.start(4, 16)
    assert published.read(folder)["is_lost"] is False
    word = json.loads((folder / published.FILE).read_text())
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    write_json(folder / published.FILE, {**word, "pid": child})
    assert published.read(folder)["is_lost"] is True
    with served_here(store.path) as url:
        settled(url)
        assert "is gone, last heard" in got(url, "/sweep/shown")[2]
    write_json(folder / published.FILE, {**word, "host": "elsewhere", "at": time.time() - 3600})
    assert published.read(folder)["is_lost"] is True
    (folder / published.FILE).write_text("[")
    assert published.read(folder) is None


def test_progress_that_cannot_be_written_stops_nothing(tmp_path):
    store = shown_store(tmp_path / "store")
    view = PublishedView("shown", store_path=str(store.path), quiet=True)
    view.start(4, 16)
    (store.sweep_dir("shown") / published.FILE).unlink()
    (store.sweep_dir("shown") / published.FILE).mkdir()
    view._written_at = float("-inf")
    view.update(Snapshot())
    view.stop()


# -- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["/", "/sweep/shown", f"/run/{run_id(1)}", "/static/live.js", "/counts.json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_answered(url, page, method):
    assert got(url, page, method=method)[0] == 405


def test_a_head_is_the_page_without_its_body(url):
    status, headers, text = got(url, "/sweep/shown", method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["content-length"]) > 1000


@pytest.mark.parametrize("page", ["/sweep/shown", "/run/zz", "/static/live.css", "/static/nothing", "/counts.json"])
def test_every_answer_says_what_it_may_load(url, page):
    headers = got(url, page)[1]
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_texts_of_the_store_stay_texts(url):
    for page in ("/sweep/shown", f"/run/{run_id(14)}", f"/run/{run_id(1)}", f"/sweep/{HOSTILE.replace('/', '')}", "/"):
        text = got(url, page.replace(" ", "%20"))[2]
        assert "<script>document" not in text
    assert "&lt;script&gt;document" in got(url, "/sweep/shown")[2]
    assert '"><b>' not in got(url, "/sweep/shown?run=%22%3E%3Cb%3E")[2]


def test_a_name_that_is_not_this_machines_gets_no_page(url):
    assert got(url, "/sweep/shown", Host="evil.example")[0] == 400
    assert got(url, "/sweep/shown", Host=url.removeprefix("http://"))[0] == 200
    assert got(url, "/sweep/shown", Host="localhost:1")[0] == 200


@pytest.mark.parametrize(
    ("page", "status", "says"),
    [
        ("/run/nope", 404, "run &#39;nope&#39;: none of this store begins so"),
        ("/sweep/nope", 404, "sweep: got &#39;nope&#39;; expected one of shown"),
        ("/nothing", 404, "Not Found"),
        (f"/run/{run_id(14)}/curve.json", 404, "this run has no such curve"),
        (f"/run/{run_id(1)}/curve.json?metric=run_id", 404, "this run has no such curve"),
        (f"/run/{run_id(1)}/curve.json?low=x", 400, "low: got &#39;x&#39;; expected a number"),
        (f"/run/{run_id(1)}/curve.json?low=nan", 400, "expected a number"),
        ("/static/../app.py", 404, "Not Found"),
        ("/static/%2e%2e/app.py", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_a_page_with_a_way_out(url, page, status, says):
    found, _, text = got(url, page)
    assert (found, says in text, 'href="/"' in text) == (status, True, True), text


def test_an_unchanged_page_is_not_sent_again(url):
    tag = got(url, "/sweep/shown")[1]["etag"]
    assert got(url, "/sweep/shown", If_None_Match=tag)[::2] == (304, "")
    assert got(url, "/sweep/shown?status=failed", If_None_Match=tag)[0] == 200


def test_serving_writes_nothing(path, url):
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    for page in ("/", "/sweep/shown", f"/run/{run_id(1)}", f"/run/{run_id(1)}/curve.json"):
        got(url, page)
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before


# -- the command ---------------------------------------------------------------------------------


def refusal(*arguments: str) -> str:
    found = CliRunner().invoke(cli, ["serve", *arguments])
    assert (found.exit_code, found.stdout, len(found.stderr.splitlines())) == (2, "", 1), found.output
    return found.stderr.removeprefix("eureka: ").rstrip()


def test_bad_requests_are_one_line(path, tmp_path):
    assert "no store here; `eureka run" in refusal(str(tmp_path / "none"))
    assert "sweep: got 'shwn'; expected one of shown. Did you mean 'shown'?" in refusal(str(path), "--sweep", "shwn")
    assert "--host: got 'no such host'; expected an address" in refusal(str(path), "--host", "no such host")
    assert "--host: got '192.0.2.1'" in refusal(str(path), "--host", "192.0.2.1", "--port", "0")
    assert "70000 is not in the range" in refusal(str(path), "--port", "70000")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refusal(str(path), "--port", port) == (
            f"--port: got {port}; it is taken. Give another --port, or 0 for a free one"
        )


def test_missing_packages_are_named(path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert refusal(str(path)) == "serve: uvicorn is not installed. pip install 'eureka[serve]'"


def test_the_command_prints_the_address_and_ends_at_ctrl_c(path):
    with served(path, "--sweep", "shown") as url:
        assert url.startswith("http://127.0.0.1:")
        assert got(url)[1]["location"] == "/sweep/shown"


def test_listening_everywhere_is_warned_of(path):
    with served(path, "--host", "0.0.0.0"):
        pass


def test_planning_imports_no_web_server():
    from sweep_files import python

    code = (
        "import sys, orchestrator.cli; print(any(name in sys.modules for name in ('starlette', 'uvicorn', 'polars')))"
    )
    assert python("-c", code).stdout.strip() == "False"


def test_the_axes_of_a_sweep_are_those_of_its_study(path):
    from analysis.study import open_study
    from orchestrator.serve.live import Live

    live = Live(Store(path))
    live.look()
    study = open_study(Store(path), sweep="shown")
    assert live.sweeps["shown"].axes == study.axes
    while live.ledger.judge_some():
        pass
    expected = study.events.select("run_id", "status", "eureka_step").sort("run_id")
    found = live.ledger.events.select("run_id", "status", "eureka_step").sort("run_id")
    assert found.equals(expected.with_columns(pl.col("status").cast(pl.String)))
