"""What a cluster costs, by the prices in its file, and when it stops by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from cluster_files import SWEEP, job, load_text

from orchestrator.cli import cli
from orchestrator.clusters.job import sweep_command
from orchestrator.clusters.price import hours_allowed, per_hour, price
from orchestrator.plan import Duration

TEXT = """
name: rented
launcher: slurm
store: /scratch/store
workers: {count: 10}
budget: {hours: 8, cost: 22}
prices: {currency: EUR, head_per_hour: 0.5, worker_per_hour: 0.5}
slurm: {}
"""
HOUR = 3600.0


def test_a_cluster_costs_its_head_and_all_its_workers() -> None:
    spec, _ = load_text(TEXT)
    assert per_hour(spec) == pytest.approx(5.5)
    found = price(spec, duration=Duration(expected_s=HOUR, at_most_s=3 * HOUR))
    assert (found.cost, found.cost_at_most) == (pytest.approx(5.5), pytest.approx(16.5))
    assert found.line() == (
        "rented: 10 workers as fast as this machine's: about 5.50 EUR, at most 16.50 (5.50 an hour); stops after 4 h"
    )


def test_the_narrower_of_hours_and_cost_ends_a_sweep() -> None:
    spec, _ = load_text(TEXT)
    assert hours_allowed(spec) == pytest.approx(4.0)  # 22 / 5.5
    assert hours_allowed(spec, max_cost=11.0) == pytest.approx(2.0)
    assert hours_allowed(load_text(TEXT.replace("cost: 22", "cost: 220"))[0]) == pytest.approx(8.0)
    assert "--max-hours 4 " in sweep_command(spec, job(), file="F", launcher="ray") + " "


def test_a_budget_that_ends_before_the_sweep_is_told() -> None:
    found = price(load_text(TEXT)[0], duration=Duration(expected_s=5 * HOUR, at_most_s=9 * HOUR))
    assert found.is_over_budget
    assert found.cost_at_most == pytest.approx(22.0)
    assert "before the sweep is expected to be done" in found.line()


def test_an_unknown_duration_has_no_cost() -> None:
    found = price(load_text(TEXT)[0], duration=None)
    assert (found.cost, found.cost_at_most, found.is_over_budget) == (None, None, False)
    assert "how long is not known" in found.line()


def test_the_plan_prices_a_cluster(tmp_path: Path) -> None:
    cluster, sweep = tmp_path / "c.yaml", tmp_path / "small.yaml"
    cluster.write_text(TEXT)
    sweep.write_text(SWEEP)
    command = ["plan", str(sweep), "--cluster", str(cluster), "--no-measure", "--json", "--store", str(tmp_path / "s")]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 0, shown.output
    record = json.loads(shown.output)
    assert (record["workers"], record["price"]["per_hour"], record["price"]["currency"]) == (10, 5.5, "EUR")


def test_a_cost_without_prices_is_refused(tmp_path: Path) -> None:
    sweep = tmp_path / "small.yaml"
    sweep.write_text(SWEEP)
    shown = CliRunner().invoke(cli, ["run", str(sweep), "--max-cost", "3", "--store", str(tmp_path / "s")])
    assert (shown.exit_code, (tmp_path / "s").exists()) == (2, False)
    shown = CliRunner().invoke(cli, ["submit", "laptop", str(sweep), "--max-cost", "3", "--dry-run"])
    assert shown.exit_code == 2
    assert "laptop has no prices" in shown.output
