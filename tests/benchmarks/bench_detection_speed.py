"""How fast events come out of stored curves: against pandas and DuckDB, and in how much memory.

The first half asks everyone the same questions of the same Parquet files, warm in the page cache: when the loss was
first below a level, the digest that detection begins with, and the events. Everyone answers as its users would have it:
eureka by the medians of its stored digests, pandas and DuckDB by single steps; DuckDB, on one connection that stays
open, is also asked of the digests, and of medians that it makes itself. The second half digests far more rows than one
would hold in memory, in a process of its own whose peak memory is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import polars as pl

from analysis import frames
from analysis.bins import bin_numbers
from analysis.detect import DETECTORS, events_of, stored_events
from analysis.digest import DIGEST_SCHEMA, digest
from analysis.first_crossing import first_bins
from analysis.rows import curve
from analysis.store import Store
from tests.benchmarks.timing import keep, machine, spread, table

TITLE = "Detection: rows a second"
ROOT = Path(__file__).parents[2]
LEVEL = 0.5
NO_STEPS, NOTHING = np.zeros(0, np.int64), {}


def filled_store(path: Path, *, runs: int, steps: int, block: int, metrics: int) -> tuple[Store, dict[str, float]]:
    """A store of plateaus and falls, and the seconds that its commits and their digests took [s]."""
    import analysis.store

    store, rng, seconds = Store.create(path), np.random.default_rng(0), {"commit": 0.0, "digest": 0.0}
    make = analysis.store.digest_rows

    def timed(*args: Any, **options: Any) -> Any:
        began = perf_counter()
        rows = make(*args, **options)
        seconds["digest"] += perf_counter() - began
        return rows

    analysis.store.digest_rows = timed
    t = np.arange(steps, dtype=np.float32)
    levels = {"level.loss_plateau": 0.95, "level.loss_floor": 0.0}
    for first in range(0, runs, block):
        rows, curves = [], []
        for number in range(first, min(first + block, runs)):
            at = rng.uniform(0.2, 1.5) * steps
            run = hashlib.blake2b(str(number).encode(), digest_size=8).hexdigest()  # in no order, as ids are
            loss = 0.95 / (1 + np.exp(np.clip((t - at) / (0.02 * at), -50, 50))) + rng.normal(0.05, 0.03, steps)
            values = {name: loss.astype(np.float32) for name in ("loss", "accuracy", "grad_norm")[:metrics]}
            curves.append(curve(run, values, NO_STEPS, NOTHING))
            rows.append(
                {"run_id": run, "config_id": "c", "shape_key": "s", "status": "finished", "steps": steps, **levels}
            )
        began = perf_counter()
        store.commit(rows, curves, types={})
        seconds["commit"] += perf_counter() - began
    analysis.store.digest_rows = make
    return store, seconds


# -- side by side --------------------------------------------------------------------------------


def first_below(store: Store) -> pl.DataFrame:
    """Ours: one pass over the files that belong to the ledger."""
    rows = frames.metrics(store).filter(pl.col("loss") <= LEVEL)
    return rows.group_by("run_id").agg(pl.col("step").min()).collect(engine="streaming")


def judged(store: Store) -> pl.DataFrame:
    """Events without those that the store keeps."""
    return events_of(frames.digest(store), runs=frames.runs(store), detector=DETECTORS["contrast-1"])


def detected(bins: pl.DataFrame, *, runs: pl.DataFrame) -> pl.DataFrame:
    """Events from another library's digest: columns run_id, bin, value, low, high, n_steps."""
    ordered = bins.sort("run_id", "bin").with_columns(
        bin=pl.int_range(pl.len()).over("run_id"),
        at_step=((pl.col("low") + pl.col("high")) / 2).clip(lower_bound=0.5),
    )
    found = ordered.select(pl.col(name).cast(dtype) for name, dtype in DIGEST_SCHEMA.items())
    return events_of(found, runs=runs, detector=DETECTORS["contrast-1"])


def pandas_frame(store: Store) -> Any:
    import pandas as pd

    return pd.concat([pd.read_parquet(path, columns=["run_id", "step", "loss"]) for path in store.metrics_paths()])


def first_below_pandas(store: Store) -> Any:
    rows = pandas_frame(store)
    return rows[rows["loss"] <= LEVEL].groupby("run_id", observed=True)["step"].min()


def duckdb_of(store: Store) -> Callable[[str], Any]:
    """Answers a query on one connection; METRICS and DIGESTS in it stand for the files."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    digests = [str(path) for path in store.files("digests")]
    files = {"METRICS": f"read_parquet({store.metrics_paths()})", "DIGESTS": f"read_parquet({digests})"}

    def answer(query: str) -> Any:
        for name, each in files.items():
            query = query.replace(name, each)
        return connection.execute(query).fetchnumpy()

    return answer


FIRST_STEP = f"SELECT run_id, min(step) FROM METRICS WHERE loss <= {LEVEL} GROUP BY run_id"
FIRST_BIN = f"SELECT run_id, min(at_step) FROM DIGESTS WHERE metric = 'loss' AND value <= {LEVEL} GROUP BY run_id"


def digest_pandas(store: Store, *, steps: int) -> pl.DataFrame:
    rows = pandas_frame(store)
    rows["bin"] = bin_numbers(steps)[rows["step"]]
    found = rows.groupby(["run_id", "bin"], observed=True).agg(
        value=("loss", "median"), low=("step", "min"), high=("step", "max"), n_steps=("loss", "count")
    )
    return pl.from_pandas(found.reset_index())


def digest_duckdb(store: Store, *, steps: int) -> pl.DataFrame:
    """The bin of each step is a table to join, so that nothing but the medians is compared."""
    import duckdb

    bins = pl.DataFrame({"step": np.arange(steps, dtype=np.int32), "bin": bin_numbers(steps)}).to_arrow()
    with duckdb.connect() as connection:
        connection.register("bins", bins)
        found = connection.execute(
            "SELECT run_id, bin, median(loss) AS value, min(step) AS low, max(step) AS high, count(loss) AS n_steps "
            f"FROM read_parquet({store.metrics_paths()}) JOIN bins USING (step) GROUP BY run_id, bin"
        )
        return pl.DataFrame(found.fetchnumpy())


def first_median_below_duckdb(store: Store, *, steps: int) -> pl.DataFrame:
    """The same question as ours: the first bin whose median is below."""
    rows = digest_duckdb(store, steps=steps).filter(pl.col("value") <= LEVEL)
    return rows.group_by("run_id").agg(pl.col("bin").min())


def side_by_side(*, runs: int, steps: int, rounds: int) -> str:
    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
        store, seconds = filled_store(Path(scratch) / "store", runs=runs, steps=steps, block=50, metrics=3)
        bare = Path(scratch) / "bare"  # the same store as if it were of before there were digests
        shutil.copytree(store.path, bare)
        shutil.rmtree(bare / "digests")
        old, ledger, duckdb = Store(bare), frames.runs(store), duckdb_of(store)
        questions: dict[str, dict[str, Callable[[], Any]]] = {
            "first below a level": {
                "eureka, medians of stored digests": lambda: first_bins(store, level=LEVEL),
                "eureka, every step": lambda: first_below(store),
                "pandas, every step": lambda: first_below_pandas(store),
                "DuckDB, every step": lambda: duckdb(FIRST_STEP),
                "DuckDB, medians that it makes": lambda: first_median_below_duckdb(store, steps=steps),
                "DuckDB, medians of our stored digests": lambda: duckdb(FIRST_BIN),
            },
            "digest of every curve": {
                "eureka, NumPy by block": lambda: frames.digest(old),
                "eureka, Polars expression": lambda: digest(frames.metrics(store), runs=ledger),
                "pandas": lambda: digest_pandas(store, steps=steps),
                "DuckDB": lambda: digest_duckdb(store, steps=steps),
            },
            "events": {
                "eureka, stored digests": lambda: judged(store),
                "eureka, again: kept in the store": lambda: stored_events(store),
                "eureka, no digests yet": lambda: judged(old),
                "pandas, then our detector": lambda: detected(digest_pandas(store, steps=steps), runs=ledger),
                "DuckDB, then our detector": lambda: detected(digest_duckdb(store, steps=steps), runs=ledger),
            },
        }
        rows = []
        for question, sides in questions.items():
            took = timings(sides, rounds=rounds)
            ours = took[next(iter(sides))]
            for side, found in took.items():
                ratios = [
                    spread([other[i] / mine[i] for other, mine in zip(found, ours, strict=True)], digits=1)
                    for i in range(2)
                ]
                seconds_of = [spread([one[i] for one in found], digits=3) for i in range(2)]
                best = runs * steps / min(wall for wall, _ in found) / 1e6
                rows.append([question, side, seconds_of[0], seconds_of[1], f"{best:.1f}", *ratios])
    size = f"{runs} runs of {steps} steps, {runs * steps:.0e} rows of three metrics in {-(-runs // 50)} files"
    note = (
        f"{size}; {rounds} rounds in turns, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; median "
        f"(quartiles). Polars and DuckDB use all cores, pandas one. "
        f"Writing: {seconds['commit']:.1f} s for the commits, of which "
        f"the digests of three metrics {seconds['digest']:.1f} s."
    )
    header = ["question", "side", "wall [s]", "CPU [s]", "M rows/s, best", "wall over the first side", "CPU over it"]
    return f"{note}\n\n{table(header, rows)}"


def timings(sides: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each side in each round, after one round that is not counted."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, work in sides.items():
            began, cpu = perf_counter(), process_time()
            work()
            if turn:
                took[name].append((perf_counter() - began, process_time() - cpu))
    return took


# -- in bounded memory ---------------------------------------------------------------------------


def peak_alone(path: str, way: str) -> None:
    """One side, in its own process: digests, and prints rows, seconds and peak memory."""
    store = Store(path)
    began = perf_counter()
    bins = frames.digest(store) if way == "blocks" else digest(frames.metrics(store), runs=frames.runs(store))
    seconds = perf_counter() - began
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"bins": bins.height, "seconds": seconds, "peak_gib": peak_gib}))


def in_bounded_memory(*, runs: int, steps: int) -> str:
    rows = []
    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
        store, _ = filled_store(Path(scratch) / "store", runs=runs, steps=steps, block=4_000_000 // steps, metrics=1)
        shutil.rmtree(store.path / "digests")
        for way, words in (
            ("blocks", "block by block, as `compact` and every reader does"),
            ("polars", "Polars expression, streaming"),
        ):
            command = [sys.executable, "-m", "tests.benchmarks.bench_detection_speed", "--alone", str(store.path), way]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            speed = runs * steps / found["seconds"]
            rows.append(
                [
                    words,
                    f"{found['seconds']:.1f}",
                    f"{speed / 1e6:.1f}",
                    f"{found['peak_gib']:.2f}",
                    f"{1e9 / speed:.0f}",
                ]
            )
    note = f"Digest of {runs * steps:.0e} rows ({runs} runs of {steps} steps), each way once in a process of its own."
    header = ["way", "wall [s]", "M rows/s", "peak memory [GiB]", "10⁹ rows, extrapolated [s]"]
    return f"{note}\n\n{table(header, rows)}"


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a tenth of the rows")
    options.add_argument("--write", action="store_true", help="keep the tables in RESULTS.md")
    options.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args(argv)
    if given.alone:
        peak_alone(*given.alone)
        return
    size = 10 if given.quick else 1
    sides = side_by_side(runs=1000 // size, steps=10_000, rounds=3 if given.quick else 7)
    memory = in_bounded_memory(runs=5000 // size, steps=20_000)
    versions = f"pandas, DuckDB: {_version('pandas')}, {_version('duckdb')}; polars {_version('polars')}"
    text = f"`python -m tests.benchmarks.bench_detection_speed`; {machine()}; {versions}.\n\n{sides}\n\n{memory}"
    print(text)
    if given.write:
        keep(TITLE, text)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    main()
