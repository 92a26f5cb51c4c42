"""What the pages say, as plain values: the templates only lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from typing import Any
from urllib.parse import urlencode

import polars as pl

from analysis.errors import StoreError
from analysis.labels import config_text, estimate_text, short, value_text, words
from analysis.store import Store
from orchestrator.progress import duration
from orchestrator.serve.curves import digest_of, polyline
from orchestrator.serve.live import Seen

PAGE_RUNS, MOST_CONFIGS, MOST_NEWEST, MOST_REASONS, MOST_LEVELS, MOST_COHORTS = 50, 50, 10, 8, 60, 24
SPARK = (120, 28)  # width and height of a small curve
SORTS = {
    "newest": ("newest first", "ended_at", True),
    "event": ("step of the event", "eureka_step", False),
    "loss": ("final loss, lowest first", "final_value", False),
    "loss-down": ("final loss, highest first", "final_value", True),
    "run": ("run id", "run_id", False),
}
CONFIG_SORTS = {
    "sweep": ("the sweep's order", "", False),
    "chance": ("P(eureka), highest first", "chance", True),
    "median": ("median step, earliest first", "median_step", False),
}
STATUSES = ("eureka", "censored", "gradual", "diverged", "failed", "unjudged")
AXIS = "axis:"


@dataclass(frozen=True)
class Asked:
    """What a reader asked of a sweep's page: the address after its question mark."""

    query: Mapping[str, str]

    def get(self, key: str) -> str:
        """A value; empty where it is not given."""
        return self.query.get(key, "")

    def page(self, key: str = "page") -> int:
        """A page number, from 1."""
        text = self.get(key)
        return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 8 else 1

    def link(self, **changes: str | int) -> str:
        """The address with some values changed; empty ones are left out."""
        values = {**self.query, **{key: str(value) for key, value in changes.items()}}
        return "?" + urlencode({key: value for key, value in values.items() if value})


def card(seen: Seen) -> dict[str, Any]:
    """A sweep's counts and pace."""
    one, word = seen.standing, seen.word
    detected = dict(one.detected or {})
    is_live = word is not None and not word["is_lost"] and one.done < one.planned
    left = word["seconds_left"] if is_live and word else None
    return {
        "name": seen.name,
        "question": str(seen.record.get("question", "")).strip(),
        "counts": one,
        "share": f"{one.done / one.planned:.0%}" if one.planned else "100%",
        "detected": detected,
        "judged": seen.judged,
        "unjudged": one.done - seen.judged,
        "unread": seen.unread,
        "is_live": is_live,
        "is_lost": bool(word and word["is_lost"]),
        "is_done": one.done >= one.planned,
        "rate": f"{word['run_steps_per_s']:,.0f}" if is_live and word and word["run_steps_per_s"] > 0 else "",
        "left": duration(left) if left is not None else "",
        "running": word["running"] if is_live and word else None,
        "takes": word.get("takes", "") if is_live and word else "",
        "note": word.get("note", "") if is_live and word else "",
        "host": word.get("host", "") if word else "",
        "heard": moment(word["at"]) if word else None,
        "last": moment(seen.runs["ended_at"][-1]) if len(seen.runs) else None,
    }


def moment(at: datetime | float | None) -> dict[str, str] | None:
    """A time, for programs and for people."""
    if at is None:
        return None
    when = datetime.fromtimestamp(at, UTC) if isinstance(at, float | int) else at.astimezone(UTC)
    return {"iso": when.isoformat(timespec="seconds"), "text": f"{when:%Y-%m-%d %H:%M:%S} UTC"}


def workers(seen: Seen) -> dict[str, Any]:
    """Cohorts at work, each with its slots."""
    rows = [
        {
            **one,
            "left": max(one["members"] - one["ended"], 0),
            "heard": moment(one["heard_at"]),
            "since": moment(one["since"]),
            "in_slots": [{"run": run, "step": step} for run, step in one["in_slots"].items()],
        }
        for one in seen.cohorts
    ]
    at_work = [row for row in rows if row["heard"]]
    return {
        "rows": rows[:MOST_COHORTS],
        "total": len(rows),
        "slots": sum(row["slots"] for row in at_work),
        "at_work": len(at_work),
    }


def newest(seen: Seen, *, store: Store) -> list[dict[str, Any]]:
    """The runs that ended last, each with its curve in small."""
    rows = [run_row(row, seen=seen) for row in seen.runs.tail(MOST_NEWEST).reverse().iter_rows(named=True)]
    for row in rows:
        row["spark"] = spark(store, row, steps=int(seen.record.get("horizon_steps", 0)) or row["steps"])
    return rows


def spark(store: Store, row: Mapping[str, Any], *, steps: int, size: tuple[int, int] = SPARK) -> str:
    """A run's loss as points of an SVG polyline; empty where there is none."""
    if not row["steps"]:
        return ""
    try:
        curves = digest_of(store, row["block"], row["run_id"], row["steps"])
    except StoreError:
        return ""
    return polyline(curves["loss"], width=size[0], height=size[1], steps=steps) if "loss" in curves else ""


def run_row(row: Mapping[str, Any], *, seen: Seen) -> dict[str, Any]:
    """An ended run in words."""
    at, final = row["eureka_step"], row["final_value"]
    return {
        "run_id": row["run_id"],
        "block": row["block"],
        "config": config_text(row, axes=seen.axes),
        "settings": [value_text(row[axis]) for axis in seen.axes],
        "way": way(row),
        "steps": row["steps"],
        "at": "–" if at is None else f"{at:,.0f}",
        "final": "–" if final is None else f"{final:.4g}",
        "reason": last_line(row["reason"]),
        "ended": moment(row["ended_at"]),
    }


def way(row: Mapping[str, Any]) -> str:
    """How a run ended, in a word that STATUSES lists."""
    if row["event"] is None:
        return str(row["status"]) if row["status"] != "finished" else "unjudged"
    return "gradual" if row["kind"] == "gradual" else str(row["event"])


def last_line(text: str | None) -> str:
    """Of a traceback, the exception."""
    lines = (text or "").strip().splitlines()
    return lines[-1].strip() if lines else ""


def configs(seen: Seen, asked: Asked) -> dict[str, Any]:
    """The configs' estimates, one page of them."""
    sort = asked.get("csort") if asked.get("csort") in CONFIG_SORTS else "sweep"
    _, column, down = CONFIG_SORTS[sort]
    table = seen.configs.sort(column, descending=down, nulls_last=True, maintain_order=True) if column else seen.configs
    page, pages, part = paged(table, page=asked.page("cpage"), size=MOST_CONFIGS)
    rows = []
    for row in part.iter_rows(named=True):
        median = estimate_text(row["median_step"], row["median_lo"], row["median_hi"], digits=0, none="not reached")
        same = {f"{AXIS}{axis}": level_text(row[axis]) for axis in seen.axes}
        rows.append(
            {
                **{name: row[name] for name in ("eureka", "n", "waiting", "gradual", "censored", "diverged", "failed")},
                "settings": [value_text(row[axis]) for axis in seen.axes],
                "chance": estimate_text(row["chance"], row["chance_lo"], row["chance_hi"]) if row["n"] else "–",
                "ends": (row["chance_lo"], row["chance"], row["chance_hi"]) if row["n"] and row["chance"] is not None
                else None,
                "median": median if row["n"] else "–",
                "link": "?" + urlencode(same) + "#runs",
            }
        )  # fmt: skip
    return {
        "rows": rows, "total": len(table), "page": page, "pages": pages, "sort": sort, "size": MOST_CONFIGS,
    }  # fmt: skip


def paged(table: pl.DataFrame, *, page: int, size: int) -> tuple[int, int, pl.DataFrame]:
    """A page's number, how many there are, and its rows."""
    pages = max(ceil(len(table) / size), 1)
    page = min(page, pages)
    return page, pages, table.slice((page - 1) * size, size)


def levels(seen: Seen) -> list[dict[str, Any]]:
    """The axes to filter by, each with the values that ended runs have."""
    found = []
    for axis in seen.axes:
        values = seen.configs[axis].unique().sort(nulls_last=True).to_list()
        options = [(level_text(value), value_text(value)) for value in values[:MOST_LEVELS]]
        found.append({"key": f"{AXIS}{axis}", "label": words(axis), "name": axis, "options": options})
    return found


def level_text(value: object) -> str:
    """A value as the address has it: every digit."""
    return "–" if value is None else repr(value) if isinstance(value, float) else str(value)


def runs(seen: Seen, asked: Asked) -> dict[str, Any]:
    """Ended runs, filtered and sorted, one page of them."""
    table = seen.runs.filter(_wanted(seen, asked))
    sort = asked.get("sort") if asked.get("sort") in SORTS else "newest"
    _, column, down = SORTS[sort]
    page, pages, part = paged(
        table.sort(column, "run_id", descending=[down, False], nulls_last=True),
        page=asked.page(), size=PAGE_RUNS,
    )  # fmt: skip
    rows = [run_row(row, seen=seen) for row in part.iter_rows(named=True)]
    return {"rows": rows, "total": len(table), "page": page, "pages": pages, "sort": sort, "of": len(seen.runs)}


def _wanted(seen: Seen, asked: Asked) -> list[pl.Expr]:
    """The filters of an address; unknown ones are left alone."""
    found = []
    status = asked.get("status")
    is_gradual = (pl.col("event") == "censored") & (pl.col("kind") == "gradual")
    if status == "unjudged":
        found.append(pl.col("event").is_null() & (pl.col("status") == "finished"))
    elif status == "gradual":
        found.append(is_gradual)
    elif status in STATUSES:
        found.append((pl.col("event").fill_null(pl.col("status")) == status) & ~is_gradual.fill_null(False))
    if prefix := asked.get("run").strip():
        found.append(pl.col("run_id").str.starts_with(prefix))
    for axis in seen.axes:
        if text := asked.get(f"{AXIS}{axis}"):
            same = [value for value in seen.configs[axis].unique().to_list() if level_text(value) == text]
            column = pl.col(axis)
            found.append(column.is_null() if same == [None] else column.is_in(same) if same else pl.lit(False))
    return found or [pl.lit(True)]


def heads(seen: Seen) -> list[dict[str, str]]:
    """The axes as a table's columns."""
    return [{"short": short(axis), "name": axis} for axis in seen.axes]
