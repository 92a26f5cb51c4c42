"""The `eureka` command: each verb reads its arguments and hands over; nothing is computed here.

Exit codes: 0 done; 1 some runs failed; 2 the request was wrong, said in one line; 130 interrupted.
Whatever a verb needs is imported when it runs, so that `eureka plan` answers at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator import __version__
from orchestrator.cluster_verbs import VERBS
from orchestrator.errors import BadRequest
from orchestrator.group import INTERRUPTED, Eureka, say
from orchestrator.options import (
    cluster_option,
    detector_option,
    device_option,
    host_option,
    json_option,
    launcher_option,
    max_cost_option,
    max_hours_option,
    overrides_argument,
    port_option,
    retry_option,
    share_option,
    store_argument,
    store_option,
    sweep_argument,
    sweep_option,
    sweeps_option,
    width_option,
    worker_cpus_option,
    worker_gpus_option,
    workers_option,
)

if TYPE_CHECKING:
    import polars as pl

    from analysis.store import Store
    from orchestrator.sweep import Sweep


@click.group(cls=Eureka, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="eureka")
def cli() -> None:
    """Sweep the settings of small networks, and see when they suddenly learn.

    SWEEP is a YAML file or the name of a shipped sweep, such as quickstart; key=value overrides
    address the file's own keys (base.optim.lr=3e-4, replicates=16). STORE is a directory; without
    one it is $EUREKA_STORE, or ./eureka-store.
    """


def main() -> None:
    """The console script."""
    cli()


@cli.command()
@sweep_argument
@overrides_argument
@store_option
@launcher_option
@device_option
@width_option
@workers_option
@retry_option
@click.option("--measure/--no-measure", default=True, help="Time a step of shapes that were never timed here.")
@click.option("--cluster", metavar="CLUSTER", help="Price it there: a cluster file, or a shipped name (clusters/).")
@json_option
def plan(
    *,
    sweep: str,
    overrides: tuple[str, ...],
    store: str,
    launcher: str,
    device: str,
    width: int | None,
    workers: int | None,
    retry_failed: bool,
    measure: bool,
    cluster: str | None,
    as_json: bool,
) -> None:
    """Show what would run: new and stored runs, cohorts, hours, and the interval to expect."""
    from orchestrator.planner import means_of, plan_sweep
    from orchestrator.status import store_or_none

    if cluster is not None:
        from orchestrator.cluster_verbs import means_there

        workers, width = means_there(cluster, workers=workers, width=width)
    loaded, measures = load(sweep, overrides=overrides), "all" if measure else "none"
    means = means_of(device=device, workers=workers, launcher=launcher, width=width, measures=measures, note=_aside)
    if loaded.search is not None:
        from orchestrator.search.forecast import forecast
        from orchestrator.search.show import forecast_panel

        ahead = forecast(loaded, store=store_or_none(store), means=means)
        _print_json(ahead.record()) if as_json else _print(forecast_panel(ahead))
        return
    made = plan_sweep(loaded, store=store_or_none(store), means=means, retry_failed=retry_failed)
    cost = None
    if cluster is not None:
        from orchestrator.cluster_verbs import priced

        cost = priced(cluster, duration=made.duration)
    if as_json:
        _print_json({**made.record(), **({"price": cost.record()} if cost else {})})
        return
    from orchestrator.show import plan_panel

    _print(plan_panel(made))
    if cost:
        click.echo(cost.line())


@cli.command()
@sweep_argument
@overrides_argument
@store_option
@launcher_option
@device_option
@width_option
@workers_option
@retry_option
@click.option(
    "--checkpoint-every",
    "checkpoint_s",
    type=click.FloatRange(min=0.1),
    default=15.0,
    show_default=True,
    help="How often unfinished runs are saved [s].",
)
@click.option("--report/--no-report", default=True, show_default=True, help="Write the report at the end.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the report goes; in the store unless given.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@worker_cpus_option
@worker_gpus_option
@share_option
@max_hours_option
@max_cost_option
@cluster_option
@click.option("--down", "is_downed", is_flag=True, help="Take the cluster down when all runs have their row.")
def run(
    *,
    sweep: str,
    overrides: tuple[str, ...],
    store: str,
    launcher: str,
    device: str,
    width: int | None,
    workers: int | None,
    retry_failed: bool,
    checkpoint_s: float,
    report: bool,
    out: Path | None,
    quiet: bool,
    worker_cpus: float,
    worker_gpus: float | None,
    is_shared: bool,
    max_hours: float | None,
    max_cost: float | None,
    cluster: str | None,
    is_downed: bool,
) -> int:
    """Train what the sweep still lacks, then write its report."""
    from orchestrator import reports
    from orchestrator.published import PublishedView

    reports.check_out(out)
    loaded = load(sweep, overrides=overrides)
    if cluster is not None:
        from orchestrator.cluster_verbs import run_there

        limits = {"max_hours": max_hours, "max_cost": max_cost}
        return run_there(loaded, cluster=cluster, **limits, retry_failed=retry_failed, is_downed=is_downed)
    if max_cost is not None:
        raise BadRequest("--max-cost: got no prices to count it with; give --cluster a file that has some")
    from orchestrator.notices import VARIABLE
    from orchestrator.run import run_sweep
    from orchestrator.stopping import stops_early

    store_path = store if "://" in store else os.path.abspath(store)  # workers have folders of their own
    with stops_early(hours=max_hours, notices=os.environ.get(VARIABLE, "")) as stop:
        outcome = run_sweep(
            loaded,
            store_path=store_path,
            launcher=launcher,
            width=width,
            workers=workers,
            device=device,
            retry_failed=retry_failed,
            view=PublishedView(loaded.name, store_path=store_path, quiet=quiet),
            checkpoint_s=checkpoint_s,
            is_shared=is_shared,
            cpus=worker_cpus,
            gpus=worker_gpus,
        )
    from orchestrator.show import outcome_line

    click.echo("\n".join([f"{loaded.name}: {outcome_line(outcome)}", *outcome.told]))
    if outcome.interrupted:
        return say(f"{stop.why}: {INTERRUPTED}" if stop.why else INTERRUPTED, code=130)
    failed = outcome.failed + outcome.failed_before
    if failed:
        way_out = f"eureka status {store} --sweep {loaded.name} gives the reasons, --retry-failed another try"
        click.echo(f"{failed} {'run has' if failed == 1 else 'runs have'} failed: {way_out}", err=True)
    if report:
        click.echo("\n".join(reports.report(open_store_at(store), names=[loaded.name], out=out)))
    return 1 if failed else 0


@cli.command()
@store_argument
@sweep_option
@detector_option
@json_option
def status(store: str, name: str | None, detector: str | None, as_json: bool) -> None:
    """Show counts, events so far, and failures with their reasons; of a cluster file, what is up and runs there."""
    from orchestrator.cluster_verbs import cluster_status, is_cluster
    from orchestrator.status import all_judged, chosen_sweeps, standings

    if is_cluster(store):
        cluster_status(store, as_json=as_json)
        return
    opened = open_store_at(store)
    counted = standings(opened, names=chosen_sweeps(opened, name=name))
    found = all_judged(opened, counted, detector=detector)
    if as_json:
        _print_json([one.record() for one in found])
        return
    from orchestrator.show import standing_panel

    _print(*(standing_panel(one) for one in found))


@cli.command()
@store_argument
@sweep_option
@click.option("--every", "every_s", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="[s]")
def watch(store: str, name: str | None, every_s: float) -> None:
    """Show the same live, until all is done or Ctrl-C."""
    import time

    from orchestrator.show import Changing, standing_panel
    from orchestrator.status import chosen_sweeps, standings

    opened = open_store_at(store)
    names = chosen_sweeps(opened, name=name)
    with Changing() as screen:
        while True:
            found = standings(opened, names=names)
            screen.show(found, [standing_panel(one) for one in found])
            if all(one.done == one.planned and not one.is_open for one in found):
                return
            time.sleep(every_s)


@cli.command()
@store_argument
@sweep_option
@host_option
@port_option
@click.option("--open", "is_opened", is_flag=True, help="Open a browser, too.")
def serve(store: str, name: str | None, host: str, port: int, is_opened: bool) -> None:
    """Show the same in a browser, live and read-only, until Ctrl-C."""
    from orchestrator.serve.server import serve as serve_until_stopped

    opened = open_store_at(store)

    def tell(url: str) -> None:
        click.echo(f"{url}  (Ctrl-C ends it; the sweep goes on)")

    serve_until_stopped(opened, sweep=name, host=host, port=port, say=tell, warn=_aside, is_opened=is_opened)
    click.echo("no longer served", err=True)


@cli.command()
@store_argument
@sweeps_option
@detector_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of its own; in the store unless given.")
@click.option("--pdf", is_flag=True, help="Also report.pdf, and each figure as PDF.")
def report(store: str, names: tuple[str, ...], detector: str | None, out: Path | None, pdf: bool) -> None:
    """Write a sweep's report: one page, and the tables behind its figures.

    Of several sweeps (all of the store, unless --sweep names some) each gets its own, under a page that compares them.
    """
    from orchestrator import reports
    from orchestrator.status import chosen_sweeps

    opened = open_store_at(store)
    chosen = chosen_sweeps(opened, names=names)
    click.echo("\n".join(reports.report(opened, names=chosen, out=out, detector=detector, pdf=pdf)))


@cli.command()
@store_argument
@sweeps_option
@detector_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where to; made if need be.")
@click.option(
    "--format",
    "formats",
    metavar="FORMAT",
    multiple=True,
    default=("csv", "parquet"),
    show_default=True,
    help="csv, parquet, latex or tensorboard; more than once.",
)
def export(store: str, names: tuple[str, ...], detector: str | None, out: Path, formats: tuple[str, ...]) -> None:
    """Write a sweep's events and configs for other tools."""
    from orchestrator import reports
    from orchestrator.status import chosen_sweeps

    opened = open_store_at(store)
    chosen = chosen_sweeps(opened, names=names)
    click.echo("\n".join(reports.export(opened, names=chosen, out=out, formats=formats, detector=detector)))


@cli.command()
@store_argument
@sweep_option
@detector_option
@click.option("--out", type=click.Path(path_type=Path), help="A .parquet or .csv file instead of printing.")
@json_option
def events(store: str, name: str | None, detector: str | None, out: Path | None, as_json: bool) -> None:
    """Print the EVENTS table, one row a run, or write it."""
    from analysis.usual import judge_of
    from orchestrator.status import chosen_sweeps, events_table

    _check_table(out)
    opened = open_store_at(store)
    record = opened.sweep(chosen_sweeps(opened, name=name)[0]) if name else {}
    table = events_table(opened, detector=detector or judge_of(record), runs=record.get("runs"))
    if out is not None:
        _write_table(table, out)
        click.echo(f"{len(table):,} events written to {out}", err=True)
    elif as_json:
        click.echo(table.write_json())
    else:
        click.echo(table.write_csv(separator="\t"), nl=False)


@cli.command()
@store_argument
def compact(store: str) -> None:
    """Merge the store's many small files into few."""
    from analysis.upkeep import compact as merge

    merged = merge(open_store_at(store))
    click.echo(f"{store}: {merged.before:,} blocks became {merged.after:,} ({merged.rows:,} METRICS rows moved)")


@cli.command()
@click.argument("store", metavar="STORE")
@click.argument("run_id", metavar="RUN_ID")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@json_option
def rerun(store: str, run_id: str, device: str, as_json: bool) -> int:
    """Train one stored run again, alone, and compare it bit by bit; RUN_ID may be its first digits."""
    from dataclasses import asdict

    from orchestrator.rerun import rerun as train_again
    from orchestrator.show import rerun_lines

    again = train_again(store, run_id, device=device)
    if as_json:
        _print_json(asdict(again))
    else:
        click.echo("\n".join(rerun_lines(again)))
    is_same = again.status == again.stored_status and again.first_difference is None
    return 0 if is_same and again.status != "failed" else 1


@cli.command()
@click.argument("store", metavar="STORE")
@click.argument("spec", metavar="SPEC", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Every run's readings, as a .parquet or .csv file.")
@json_option
def probe(store: str, spec: Path, out: Path | None, as_json: bool) -> None:
    """Intervene on stored snapshots as the file SPEC says, and print means over runs.

    Readings are kept in the store, so the same file again computes nothing.
    """
    from analysis.probe_table import means
    from orchestrator.probe import probe as probe_snapshots
    from orchestrator.probe import readings
    from orchestrator.probe_spec import load_probe

    _check_table(out)
    opened = open_store_at(store)
    probed = probe_snapshots(opened, load_probe(spec), note=_aside)
    found = readings(opened, probed)
    _aside(f"{probed.computed:,} probes computed, {len(probed.probes) - probed.computed:,} were stored")
    if probed.left_out:
        listed = " ".join(run[:8] for run in probed.left_out)
        _aside(f"left out, without an event or a snapshot before it: {len(probed.left_out)} runs ({listed})")
    if out is not None:
        _write_table(found, out)
    table = means(found)
    click.echo(table.write_json() if as_json else table.write_csv(separator="\t"), nl=as_json)


@cli.command()
@store_argument
@click.option("--repair", is_flag=True, help="Mend what can be mended without guessing; what is damaged is set aside.")
@click.option("--dry-run", is_flag=True, help="Only say what --repair would do.")
@json_option
def doctor(store: str, repair: bool, dry_run: bool, as_json: bool) -> int:
    """Check the installation, and every promise of the store if there is one.

    The exit code is 0 where nothing is wrong (any more), and 1 where something is.
    """
    from orchestrator.doctor import examine, lines

    if dry_run and not repair:
        raise BadRequest("--dry-run: says what --repair would do; give both")
    record = examine(store, repair=repair, dry_run=dry_run, note=_aside)
    if as_json:
        _print_json(record)
    else:
        click.echo("\n".join(lines(record, dry_run=dry_run)))
    return 1 if record["problems"] else 0


@cli.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--download", "names", metavar="NAME", multiple=True, help="Fetch what is missing of a set; more than once."
)
@click.option(
    "--sources", type=click.Path(path_type=Path), help="Addresses and checksums, in place of the shipped ones."
)
@json_option
def data(folder: Path | None, names: tuple[str, ...], sources: Path | None, as_json: bool) -> int:
    """Check the image files in DIR, or EUREKA_DATA, and fetch those that tasks need."""
    from orchestrator.data import chosen, data_folder, download, examine, lines, read_sources

    sets, folder = read_sources(sources), data_folder(folder)
    for files in [chosen(sets, name) for name in names]:
        download(folder, files, note=_aside)
    found = [one for name, files in sets.items() if name in (names or sets) for one in examine(folder, files)]
    if as_json:
        _print_json([one.record() for one in found])
    else:
        click.echo("\n".join(lines(folder, found)))
    return 1 if any(one.state not in ("good", "missing") for one in found) else 0


for _verb in VERBS:
    cli.add_command(_verb)


def load(sweep: str, *, overrides: Sequence[str]) -> Sweep:
    """A sweep by path or by the name of a shipped one."""
    from orchestrator.shipped import find_sweep
    from orchestrator.sweep import load_sweep

    return load_sweep(find_sweep(sweep), overrides=overrides)


def open_store_at(path: str) -> Store:
    """The store at a path, which must be one."""
    from orchestrator.status import open_store

    return open_store(path)


def _check_table(out: Path | None) -> None:
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise BadRequest(f"--out: got '{out}'; expected a name that ends in .parquet or .csv")


def _write_table(table: pl.DataFrame, out: Path) -> None:
    try:
        table.write_parquet(out) if out.suffix == ".parquet" else table.write_csv(out)
    except OSError as error:
        raise BadRequest(f"--out: {out}: cannot be written: {error.strerror or error}") from None


def _aside(text: str) -> None:
    click.echo(text, err=True)


def _print_json(record: object) -> None:
    click.echo(json.dumps(record, indent=2))


def _print(*panels: Any) -> None:
    from rich.console import Console

    console = Console()
    for panel in panels:
        console.print(panel)


if __name__ == "__main__":
    main()
