"""Arguments and options that several verbs of the command share."""

from __future__ import annotations

from typing import Any

import click

from analysis.usual import DEFAULT_DETECTOR

DEFAULT_STORE = "eureka-store"

_store_default: dict[str, Any] = {"envvar": "EUREKA_STORE", "default": DEFAULT_STORE}
sweep_argument = click.argument("sweep", metavar="SWEEP")
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
store_option = click.option("--store", **_store_default, show_default=True, help="Where runs are stored.")
store_argument = click.argument("store", **_store_default, metavar="[STORE]")
sweep_option = click.option("--sweep", "name", metavar="NAME", help="Only this sweep of the store.")
sweeps_option = click.option(
    "--sweep", "names", metavar="NAME", multiple=True, help="Only this sweep of the store; more than once for several."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
launcher_option = click.option(
    "--launcher", type=click.Choice(["ray", "inline"]), default="ray", show_default=True, help="Who starts workers."
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
width_option = click.option(
    "--width", type=click.IntRange(min=1), help="Slots of a cohort [runs]; the fastest here unless given."
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="Processes that train at once; one a core unless given."
)
detector_option = click.option(
    "--detector", help=f"Who judges events; the sweep's own unless given, else {DEFAULT_DETECTOR}."
)
retry_option = click.option("--retry-failed", is_flag=True, help="Train the runs again that failed before.")
share_option = click.option(
    "--share",
    "is_shared",
    is_flag=True,
    help="Divide the sweep among all commands that say so; needs --launcher inline.",
)
max_hours_option = click.option(
    "--max-hours", type=click.FloatRange(min=0, min_open=True), help="Stop as Ctrl-C would, after so much time [h]."
)
max_cost_option = click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop when a cluster's prices come to that, its workers all counted from the start; needs --cluster.",
)
cluster_option = click.option(
    "--cluster", metavar="CLUSTER", help="Train there: a cluster file, or a shipped one's name (clusters/)."
)
worker_cpus_option = click.option(
    "--worker-cpus",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    help="A worker's processors on a cluster.",
)
worker_gpus_option = click.option(
    "--worker-gpus", type=click.FloatRange(min=0), help="A worker's accelerators there; a fraction shares one."
)
follow_option = click.option(
    "--follow/--no-follow", "-f", default=False, show_default=True, help="Stay, and show what comes."
)
host_option = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=8537, show_default=True, help="Port to listen at; 0 picks one."
)
