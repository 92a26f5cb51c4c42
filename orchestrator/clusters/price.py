"""What a sweep costs on a cluster, at the prices in its file.

A cluster that scales itself costs less than this: all its workers are counted from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.clusters.spec import ClusterSpec
from orchestrator.plan import Duration


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a plan comes to.

    Attributes:
        cluster: its name.
        workers: that train at once.
        currency: of the costs.
        per_hour: of the whole cluster [currency/h].
        duration: of the sweep there, at this machine's speed; None where a rate is unknown.
        hours_allowed: by the file's budget; None is no limit [h].
    """

    cluster: str
    workers: int
    currency: str
    per_hour: float
    duration: Duration | None
    hours_allowed: float | None

    @property
    def cost(self) -> float | None:
        """Expected [currency]."""
        return None if self.duration is None else self.duration.expected_s / 3600.0 * self.per_hour

    @property
    def cost_at_most(self) -> float | None:
        """If no run stops before its budget, or the file's budget ends [currency]."""
        if self.duration is None:
            return None
        hours = self.duration.at_most_s / 3600.0
        return min(hours, self.hours_allowed or hours) * self.per_hour

    @property
    def is_over_budget(self) -> bool:
        """The sweep is expected to be stopped by the file's budget before it is done."""
        return (
            self.duration is not None
            and self.hours_allowed is not None
            and self.duration.expected_s / 3600.0 > self.hours_allowed
        )

    def line(self) -> str:
        """One line for people."""
        if self.per_hour == 0.0:
            price = "no prices in the file"
        elif self.cost is None or self.cost_at_most is None:
            price = f"{self.per_hour:,.2f} {self.currency} an hour; how long is not known"
        else:
            most = f"at most {self.cost_at_most:,.2f} ({self.per_hour:,.2f} an hour)"
            price = f"about {self.cost:,.2f} {self.currency}, {most}"
        stops = f"; stops after {self.hours_allowed:.3g} h" if self.hours_allowed else ""
        warns = ", before the sweep is expected to be done" if self.is_over_budget else ""
        n = f"{self.workers:,} {'worker' if self.workers == 1 else 'workers'}"
        return f"{self.cluster}: {n} as fast as this machine's: {price}{stops}{warns}"

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "cluster": self.cluster,
            "workers": self.workers,
            "currency": self.currency,
            "per_hour": self.per_hour,
            "cost_expected": self.cost,
            "cost_at_most": self.cost_at_most,
            "hours_allowed": self.hours_allowed,
            "over_budget": self.is_over_budget,
        }


def per_hour(spec: ClusterSpec) -> float:
    """The whole cluster, all workers up [currency/h]."""
    return spec.prices.head_per_hour + spec.workers.count * spec.prices.worker_per_hour


def hours_allowed(spec: ClusterSpec, *, max_cost: float | None = None) -> float | None:
    """Wall time after which a sweep stops by itself; None is no limit [h].

    Args:
        spec: the cluster, with its own budget.
        max_cost: where the command line says [currency].
    """
    cost = min((c for c in (spec.budget.cost, max_cost) if c is not None), default=None)
    hourly = per_hour(spec)
    limits = [spec.budget.hours, cost / hourly if cost is not None and hourly > 0 else None]
    return min((hours for hours in limits if hours is not None), default=None)


def price(spec: ClusterSpec, *, duration: Duration | None) -> Price:
    """A plan's price.

    Args:
        spec: the cluster.
        duration: of the plan, made with as many workers as the cluster has.
    """
    return Price(
        cluster=spec.name,
        workers=spec.workers.count,
        currency=spec.prices.currency,
        per_hour=per_hour(spec),
        duration=duration,
        hours_allowed=hours_allowed(spec),
    )
