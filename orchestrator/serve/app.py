"""Addresses and their pages: GET and HEAD alone, nothing that changes anything.

    /                          the sweeps of the store; one alone is shown at once
    /sweep/NAME                one sweep: counts, workers, latest runs, failures, configs, runs
    /run/RUN_ID                one run and its curves; its first digits do
    /run/RUN_ID/curve.json     a part of its curve: ?metric=loss&low=0&high=500&columns=800
    /counts.json               what `eureka status --json` prints

Every page carries a fingerprint, so that a browser that asks again learns "nothing new" in a line. What a page may
load, run or be framed by is fixed by a header: its own files, and nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import analysis
from analysis.errors import StoreError
from analysis.files import read_parquet
from analysis.labels import value_text
from orchestrator.serve import curves, views
from orchestrator.serve.live import Live, Seen

HERE = Path(__file__).parent
LOOK = Path(analysis.__file__).parent / "report" / "page.css"  # the report's own
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "pages"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
PAGES.filters["n"] = lambda value: f"{value:,}"
PATIENCE_S = 30.0  # a program that asks waits so long for the first counts
NOT_SHOWN = ("spec", "traceback", "versions", "reason", "run_id", "status")  # of a run, in the list of its columns


class NotYet(Exception):
    """The store is still being read for the first time."""


def make_app(live: Live, *, hosts: list[str], on_start: Callable[[], None] = lambda: None) -> ASGIApp:
    """The pages of a store.

    Args:
        live: what they show; begins to read when the server starts, ends with it.
        hosts: names that a request may be addressed to; a page elsewhere that has its own name point here gets none.
        on_start: called when the server has started, and knows what to do with Ctrl-C.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        live.start()
        on_start()
        yield
        live.stop()

    pages = _Pages(live)
    routes = [
        Route("/", pages.overview, methods=["GET"]),
        Route("/counts.json", pages.counts, methods=["GET"]),
        Route("/sweep/{name}", pages.sweep, methods=["GET"]),
        Route("/run/{run_id}", pages.run, methods=["GET"]),
        Route("/run/{run_id}/curve.json", pages.curve, methods=["GET"]),
        Route("/static/page.css", lambda _: FileResponse(LOOK, media_type="text/css"), methods=["GET"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={HTTPException: pages.refused, StoreError: pages.unreadable, NotYet: pages.unread},
    )
    return _with_headers(app)


def _with_headers(app: ASGIApp) -> ASGIApp:
    """The same headers on every answer, errors included."""
    raw = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in raw if pair[0] not in there)]
            await send(message)

        await app(scope, receive, sending)

    return answer


class _Pages:
    """The pages of one store; plain functions, which the server runs beside each other in threads."""

    def __init__(self, live: Live):
        self.live, self.store = live, live.store

    def overview(self, request: Request) -> Response:
        seen = self._news()
        if len(seen) == 1:
            return RedirectResponse(request.url_for("sweep", name=next(iter(seen))).path, status_code=307)
        return self._page(request, "overview.html", title="Sweeps", cards=[views.card(one) for one in seen.values()])

    def counts(self, request: Request) -> Response:
        seen = self.live.news(first_s=PATIENCE_S)
        return _fresh(request, JSONResponse([one.standing.record() for one in seen.values()]))

    def sweep(self, request: Request) -> Response:
        seen = self._seen(request.path_params["name"])
        asked = views.Asked(request.query_params)
        return self._page(
            request,
            "sweep.html",
            title=seen.name,
            card=views.card(seen),
            asked=asked,
            workers=views.workers(seen),
            newest=views.newest(seen, store=self.store),
            failures=seen.standing.failures[: views.MOST_REASONS],
            heads=views.heads(seen),
            configs=views.configs(seen, asked),
            levels=views.levels(seen),
            runs=views.runs(seen, asked),
            horizon=int(seen.record.get("horizon_steps", 0)),
            problems=seen.problems,
            others=len(self.live.sweeps) > 1,
            choices={"sorts": views.SORTS, "csorts": views.CONFIG_SORTS, "statuses": views.STATUSES},
            size=views.SPARK,
        )

    def run(self, request: Request) -> Response:
        given = request.path_params["run_id"]
        self._news()
        row = self._row(given)
        if row is None:
            return self._unfinished(request, given)
        if row["run_id"] != given:
            return RedirectResponse(request.url_for("run", run_id=row["run_id"]).path, status_code=307)
        events = self.live.events_of(given).to_dicts()
        settings = {name: value_text(value) for name, value in row.items() if name not in NOT_SHOWN}
        metrics = list(curves.digest_of(self.store, row["block"], given, row["steps"])) if row["steps"] else []
        order = curves.metrics_of(self.store, block=row["block"])
        return self._page(
            request,
            "run.html",
            title=f"Run {given}",
            run=row,
            sweeps=self._homes(given),
            event=events[0] if events else None,
            settings={name: text for name, text in settings.items() if text != "–"},
            metrics=sorted(metrics, key=lambda name: order.index(name) if name in order else len(order)),
            spark=views.spark(self.store, row, steps=row["steps"], size=(900, 220)),
            ended=views.moment(row["ended_at"]),
        )

    def _unfinished(self, request: Request, run_id: str) -> Response:
        """A run that is planned and has no row yet."""
        homes = self._homes(run_id)
        if not homes:
            raise HTTPException(404, f"run '{run_id[:40]}': none of this store begins so, or several do")
        steps = next((self.live.sweeps[name].saved.get(run_id) for name in homes), None)
        found = curves.saved_curve(self.store, run_id)
        picture = curves.polyline(found, width=900, height=220, steps=float(len(found.step))) if found else ""
        words = {"title": f"Run {run_id}", "run_id": run_id, "sweeps": homes, "steps": steps, "spark": picture}
        return self._page(request, "unfinished.html", **words)

    def curve(self, request: Request) -> Response:
        """Points of a run's curve in a window; with the digest and the event's steps where no window is asked for."""
        row, query = self._row(request.path_params["run_id"]), request.query_params
        if row is None:
            raise HTTPException(404, "run: no such run has ended")
        metric, block = query.get("metric", "loss"), row["block"]
        if not row["steps"] or metric not in curves.metrics_of(self.store, block=block):
            raise HTTPException(404, f"metric: got '{metric[:40]}'; this run has no such curve")
        low, high = _number(query, "low", 0.0), _number(query, "high", float(row["steps"]))
        columns = int(min(max(_number(query, "columns", 800.0), 1), curves.MOST_COLUMNS))
        whole = curves.stored_curve(self.store.metrics_path(block), row["run_id"], metric)
        found: dict[str, Any] = {"curve": whole.window(low=low, high=high, columns=columns).record()}
        if "low" not in query:
            digest = curves.digest_of(self.store, block, row["run_id"], row["steps"]).get(metric)
            events = self.live.events_of(row["run_id"]).to_dicts()
            marks = {name: events[0][name] for name in ("after_step", "by_step", "eureka_step")} if events else {}
            found |= {"digest": digest.record() if digest else None, "marks": marks, "steps": row["steps"]}
        return _fresh(request, JSONResponse(found))

    def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._error(error.status_code, error.detail, headers=error.headers)

    def unreadable(self, request: Request, error: Exception) -> Response:
        return self._error(503, str(error))

    def _error(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
        body = PAGES.get_template("error.html").render(title=str(status), text=text, status=status, live=None)
        return Response(body, status_code=status, media_type="text/html", headers=headers)

    def unread(self, request: Request, error: Exception) -> Response:
        return self._page(request, "reading.html", title="Reading the store")

    def _news(self) -> dict[str, Seen]:
        """The sweeps.

        Raises:
            NotYet: nothing has been read so far.
        """
        seen = self.live.news()
        if not self.live.is_ready:
            raise NotYet
        return seen

    def _seen(self, name: str) -> Seen:
        seen = self._news()
        if name not in seen:
            there = ", ".join(seen) or "none yet"
            raise HTTPException(404, f"sweep: got '{name[:100]}'; expected one of {there}")
        return seen[name]

    def _row(self, given: str) -> dict[str, Any] | None:
        """The RUNS row of the one run whose id begins so; None where there is none, or several."""
        rows = self.live.ledger.rows.select("run_id", "block")
        same = rows.filter(pl.col("run_id") == given)
        if same.is_empty() and given:
            same = rows.filter(pl.col("run_id").str.starts_with(given)).head(2)
        if len(same) != 1:
            return None
        run_id, block = same.row(0)
        table = pl.from_arrow(read_parquet(self.store.runs_path(block)))
        assert isinstance(table, pl.DataFrame)
        return table.row(by_predicate=pl.col("run_id") == run_id, named=True)

    def _homes(self, run_id: str) -> list[str]:
        """Sweeps that plan a run."""
        return [name for name, one in self.live.sweeps.items() if run_id in one.members]

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        live = {"store": str(self.store.path), "trouble": self.live.trouble}
        body = PAGES.get_template(template).render(live=live, views=views, **values)
        return _fresh(request, Response(body, media_type="text/html"))


def _fresh(request: Request, response: Response) -> Response:
    """The answer, or that the reader has it already."""
    tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:24]}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": tag})
    response.headers["etag"] = tag
    return response


def _number(query: Mapping[str, str], key: str, otherwise: float) -> float:
    """A number of the address.

    Raises:
        HTTPException: it is none.
    """
    try:
        value = float(query.get(key, otherwise))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise HTTPException(400, f"{key}: got '{query.get(key, '')[:40]}'; expected a number")
    return value
