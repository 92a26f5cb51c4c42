"""What the read verbs print for people; `--json` prints the same records for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.plan import Plan
from orchestrator.progress import about, afresh_note, duration
from orchestrator.status import Standing

if TYPE_CHECKING:
    from orchestrator.rerun import Rerun
    from orchestrator.run import RunOutcome

UNKNOWN_TIME = "unknown: no step of these shapes was timed here (leave out --no-measure, or see the first minute)"


def plan_panel(plan: Plan) -> RenderableType:
    """A plan as a few labelled lines."""
    record = plan.record()
    rows = [
        ("runs", _runs(record)),
        *(("axis", f"{key}  {_listed(values)}") for key, values in record["axes"].items()),
        ("to train", _to_train(plan)),
        ("cohorts", _cohorts(plan)),
        ("run-steps", f"about {plan.expected_run_steps:,.0f} (at most {plan.run_steps:,})"),
        ("time", about(plan.duration) or UNKNOWN_TIME),
        *([("faster", _compiled(plan.compiled_s))] if plan.compiled_s else []),
        ("interval", _interval(record)),
    ]
    return Group(title(record["sweep"], record["question"]), labelled(rows))


def _compiled(seconds: float) -> str:
    about = f"about {duration(seconds)} with the code it makes first"
    return f"base.compute.program=compiled: {about}, g++ needed; it is part of a run's identity"


def standing_panel(standing: Standing) -> RenderableType:
    """A sweep's counts as a few labelled lines."""
    share = standing.done / standing.planned if standing.planned else 1.0
    done = f"{standing.done:,} of {standing.planned:,} ({share:.0%})"
    kinds = f"{standing.finished:,} finished, {standing.diverged:,} diverged, {standing.failed:,} failed"
    rows = [
        *([("trials", _trials(standing.trials))] if standing.trials is not None else []),
        ("done", f"{done}: {kinds}"),
        ("not done", f"{standing.begun:,} begun, {standing.waiting:,} waiting"),
        *_progress(standing),
        ("events", _events(standing)),
        *(("failure", f"{n:,} × {reason}") for reason, n in standing.failures[:8]),
    ]
    if len(standing.failures) > 8:
        rows.append(("", f"and {len(standing.failures) - 8} other reasons (--json lists them all)"))
    return Group(title(standing.sweep, ""), labelled(rows))


class Changing:
    """Panels that change: in place on a terminal, printed again where there is none."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._last: object = None

    def __enter__(self) -> Changing:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, news: object, panels: Sequence[RenderableType]) -> None:
        """Show panels; off a terminal only where the news they tell is new."""
        if self._live is not None:
            self._live.update(Group(*panels), refresh=True)
        elif news != self._last:
            self._last = news
            self._console.print(*panels, sep="")


def title(name: str, question: str) -> Text:
    """A sweep's name, and what it asks."""
    return Text.assemble((name, "bold"), f"  {question}" if question else "")


def labelled(rows: list[tuple[str, str]]) -> Table:
    """Lines with their labels in a column."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(f"  {label}", Text(text))
    return table


def _runs(record: dict[str, Any]) -> str:
    configs, replicates = _many(record["configs"], "config"), _many(record["replicates"], "replicate")
    return f"{record['runs']:,} = {configs} × {replicates}"


def _to_train(plan: Plan) -> str:
    text = f"{len(plan.new):,} new, {plan.already:,} already stored"
    if plan.failed_before:
        text += f" ({plan.failed_before:,} of them failed; --retry-failed trains those again)"
    return text


def _cohorts(plan: Plan) -> str:
    if not plan.cohorts:
        return "none"
    sizes = [len(cohort.members) for cohort in plan.cohorts]
    shapes = len({cohort.shape_key for cohort in plan.cohorts})
    packed = f"{_many(len(sizes), 'cohort')} of {_span(sizes)} runs, {_many(shapes, 'shape')}"
    widths = [cohort.width for cohort in plan.cohorts]
    return f"{packed}, {_span(widths)} {'slot' if max(widths) == 1 else 'slots'} each, {_many(plan.workers, 'worker')}"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low} to {high}" if low < high else f"{high}"


def _interval(record: dict[str, Any]) -> str:
    width, n = record["interval_width"], record["replicates"]
    return f"{width:.2f} wide (95 % Wilson at P = 1/2, n = {_many(n, 'run')} a config)"


def _progress(standing: Standing) -> list[tuple[str, str]]:
    """How much is trained, how fast it goes and how long it takes; nothing of a sweep that is done."""
    progress = standing.progress
    if progress is None or (standing.done == standing.planned and not standing.is_open):
        return []
    about = "about" if progress.is_running else "at most"
    whole = progress.steps_done + progress.steps_left
    parts = [f"{progress.share:.0%} of the training: {progress.steps_done:,} of {about} {whole:,} run-steps"]
    if not progress.is_running:
        parts.append("no command trains it now")
    if progress.run_steps_per_s is not None:
        parts.append(f"{progress.run_steps_per_s:,.0f} a second")
    if progress.seconds_left is not None:
        parts.append(f"about {duration(progress.seconds_left)} left")
    return [("progress", ", ".join(parts))]


def _events(standing: Standing) -> str:
    online = f"{standing.events:,} by the online rule"
    if standing.detected is None:
        return online
    counts = ", ".join(f"{n:,} {status}" for status, n in sorted(standing.detected.items())) or "none judged yet"
    by = f" by {standing.detector}" if standing.detector else ""
    return f"{counts}{by}; {online}"


def _listed(values: list[Any], *, most: int = 8) -> str:
    shown = [_value(value) for value in values]
    if len(shown) > most:
        shown = [*shown[: most - 2], "…", shown[-1]]
    return f"{', '.join(shown)}  ({len(values)})"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(inner)}" for key, inner in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _many(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def outcome_line(outcome: RunOutcome) -> str:
    """What a run did, in a line."""
    parts = [_trials(outcome.trials)] if outcome.trials is not None else []
    parts += [f"{_many(outcome.trained, 'run')} trained in {duration(outcome.seconds)}"]
    parts += [f"{outcome.already:,} already stored"] if outcome.already else []
    parts += [f"{_many(outcome.events, 'event')} by the online rule"]
    parts += [f"{outcome.diverged:,} diverged"] if outcome.diverged else []
    parts += [f"{outcome.failed:,} failed"] if outcome.failed else []
    parts += [afresh_note(outcome.afresh)] if outcome.afresh else []
    files = "checkpoint file was" if outcome.damaged == 1 else "checkpoint files were"
    parts += [f"{outcome.damaged:,} {files} damaged and of no use"] if outcome.damaged else []
    return ", ".join(parts)


def _trials(counts: Mapping[str, int]) -> str:
    told = f"{_many(counts['complete'], 'trial')} told"
    more = [("failed", "failed"), ("running", "under way"), ("warm", "from the store")]
    return ", ".join([told, *(f"{counts[state]:,} {word}" for state, word in more if counts[state])])


def rerun_lines(again: Rerun) -> list[str]:
    """What came of training a run again."""
    if again.status == "failed":
        return [f"run {again.run_id}: was {again.stored_status}; now failed:", again.text.rstrip()]
    was = "" if again.status == again.stored_status else f"was {again.stored_status}; now "
    head = f"run {again.run_id}: {was}{again.status} after {_many(again.steps, 'step')} ({again.text})"
    if not again.compared:
        return [head, "The store has no curve to compare it with."]
    if again.first_difference is None:
        return [head, f"Every metric of its {_many(again.compared, 'step')} has the stored bits."]
    return [head, f"Differs from the stored curve from step {again.first_difference} on."]
