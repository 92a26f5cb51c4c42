"""How soon the live page of a hundred thousand runs is on the screen, by the browser's own clock.

The store is the report's. The server is the command, in a process of its own; pages are opened over loopback in a
headless Chromium whose cache is off. A first paint is the browser's first-contentful-paint, from the start of the
navigation; the first page is asked for as soon as the command has printed its address, when nothing is read yet.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from tests.benchmarks.bench_report import ROOT, filled_store
from tests.benchmarks.timing import keep, machine, spread, table
from tests.orchestrator.browser import CHROMIUM, Browser, browser

TITLE = "Live page: seconds to the first paint of a hundred thousand runs"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
ROUNDS = 7


def painted(tab: Browser, url: str) -> float:
    """Seconds to the first paint of a page."""
    tab.call("Page.navigate", url="about:blank")
    tab.open(url)
    tab.wait(f"({PAINT}) > 0")
    return float(tab.ask(PAINT)) / 1e3


def asked(url: str, path: str, tag: str = "") -> tuple[float, int, str]:
    """Seconds that an answer takes, its bytes, and its fingerprint."""
    began = perf_counter()
    where = http.client.HTTPConnection(url.split("/")[2])
    where.request("GET", path, headers={"If-None-Match": tag} if tag else {})
    answer = where.getresponse()
    size = len(answer.read())
    where.close()
    return perf_counter() - began, size, answer.headers["ETag"] or ""


def measured(*, runs: int, steps: int) -> str:
    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
        store = filled_store(Path(scratch) / "store", runs=runs, steps=steps)
        command = [sys.executable, "-m", "orchestrator.cli", "serve", str(store.path), "--port", "0"]
        with browser() as tab:
            tab.size(1280)
            tab.call("Network.setCacheDisabled", cacheDisabled=True)
            began = perf_counter()
            server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            try:
                assert server.stdout is not None
                url = server.stdout.readline().split()[0].rstrip("/")
                address_s = perf_counter() - began
                rows = [
                    [
                        "first page, nothing read yet (it says so until runs are counted)",
                        f"{painted(tab, f'{url}/sweep/large'):.2f}",
                    ]
                ]
                tab.wait(f"document.getElementById('counts')?.innerHTML.includes('<b>{runs:,}</b> of')")
                counted_s = perf_counter() - began
                early = [painted(tab, f"{url}/sweep/large") for _ in range(ROUNDS)]
                while tab.ask("document.getElementById('counts').innerHTML.includes('still to be judged')"):
                    sleep(0.2)
                judged_s = perf_counter() - began
                for words, path in (
                    ("sweep", "/sweep/large"),
                    ("sweep, filtered and sorted", "/sweep/large?status=eureka&sort=event&page=500"),
                    ("run, with its curves", f"/run/{runs - 1:016x}"),
                ):
                    rows.append([words, spread([painted(tab, url + path) for _ in range(ROUNDS)])])
                rows.insert(1, ["sweep, while runs are still being judged", spread(early)])
                _, page, tag = asked(url, "/sweep/large")
                polls = [asked(url, "/sweep/large", tag) for _ in range(ROUNDS)]
                zooms = [
                    asked(url, f"/run/{n:016x}/curve.json?low=100&high={steps}&columns=1000") for n in range(ROUNDS)
                ]
            finally:
                server.terminate()
                server.wait()
    rows += [
        ["answer to a poll without news", spread([each[0] for each in polls], digits=3)],
        ["answer to the first zoom into a run", spread([each[0] for each in zooms], digits=3)],
    ]
    notes = (
        f"{runs:,} runs of {steps:,} steps in {min(runs, 500)} configs, 1280 pixels wide; load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Of {ROUNDS} each, median (quartiles). From the command: "
        f"{address_s:.1f} s to the address, {counted_s:.1f} s to all counts, {judged_s:.0f} s until every run "
        f"is judged. The page has {page / 1000:.0f} kB; a poll without news {polls[0][1]} bytes."
    )
    return f"{notes}\n\n{table(['page', 'first paint [s]'], rows[:-2])}\n\n{table(['answer', 'wall [s]'], rows[-2:])}"


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a tenth of the runs")
    options.add_argument("--runs", type=int, default=100_000)
    options.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    given = options.parse_args(argv)
    if CHROMIUM is None:
        print("no Chromium on this machine: the live page was not timed")
        return
    found = measured(runs=given.runs // (10 if given.quick else 1), steps=1000)
    text = f"`python -m tests.benchmarks.bench_serve`; {machine()}.\n\n{found}"
    print(text)
    if given.write:
        keep(TITLE, text)


if __name__ == "__main__":
    main()
