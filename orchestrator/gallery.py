"""The gallery: one page with a figure, three numbers and the report of every small sweep that comes with the package.

    make gallery                                  train them all (or what is missing), then write the page
    python -m orchestrator.gallery STORE...       the page alone, from stores that hold the sweeps

Other shipped sweeps are shown, too, where a store holds them; small ones that none holds are named with the command
that trains them. Whatever an earlier gallery drew from the same runs is not drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import BadRequest
from orchestrator.shipped import FOLDER

if TYPE_CHECKING:
    from analysis.store import Store
    from analysis.study import Study

SMALL = "_small"
# the first of these that a report has stands for it
SHOWN = ("search_line", "search_seeds", "search_history", "growth", "traces")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One sweep on the page; without `lines` no store holds it."""

    name: str
    question: str = ""
    counts: str = ""
    lines: tuple[str, ...] = ()
    figure: str | None = None  # path from the page
    title: str = ""
    report: str = ""  # path from the page


def names() -> list[str]:
    """The sweeps that come with the package, the small ones first."""
    found = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    return [name for name in found if name.endswith(SMALL)] + [name for name in found if not name.endswith(SMALL)]


def write_gallery(stores: Sequence[Path], out: Path) -> Path:
    """Write the page, and the report of every sweep on it.

    Args:
        stores: where sweeps are looked for, in this order.
        out: the page's folder; made if need be. Reports go below it.

    Returns:
        The page's path.

    Raises:
        BadRequest: the folder cannot be written.
    """
    from analysis.report.templates import TEMPLATES
    from analysis.store import Store

    opened = [Store(path) for path in stores]
    try:
        out.mkdir(parents=True, exist_ok=True)
        parts = list(_parts(opened, out))
        page = out / "index.html"
        page.write_text(TEMPLATES.get_template("gallery.html").render(parts=parts, untried=_untried(opened)))
    except OSError as error:
        raise BadRequest(f"--out: {out}: cannot be written: {error.strerror or error}") from None
    return page


def _parts(stores: Sequence[Store], out: Path) -> Iterator[Part]:
    for name in names():
        holder = next((store for store in stores if name in store.sweeps()), None)
        if holder is not None:
            yield _part(name, holder, out)
        elif name.endswith(SMALL):
            yield Part(name=name)


def _part(name: str, store: Store, out: Path) -> Part:
    from analysis.figures import FIGURES, OF_SEARCH
    from analysis.report import finding, write_study
    from analysis.study import open_study

    study = open_study(store, sweep=name)
    report = write_study(study, out_dir=out / name, store=store)
    drawn = {path.stem: path for path in (out / name / "figures").glob("*.svg")}
    titles = {figure.NAME: figure.TITLE for figure in (*OF_SEARCH, *FIGURES)}
    shown = next((figure for figure in SHOWN if figure in drawn), None)
    return Part(
        name=name, question=study.question, counts=finding(study)[0], lines=three_numbers(study),
        report=report.relative_to(out).as_posix(),
        figure=drawn[shown].relative_to(out).as_posix() if shown else None, title=titles[shown] if shown else "",
    )  # fmt: skip


def _untried(stores: Sequence[Store]) -> list[str]:
    """Tasks of which no store holds a run."""
    from workloads.tasks import TASKS

    tables = [store.runs_table(["run_id", "task.name"]) for store in stores]
    tried = {name for table in tables if table.num_rows for name in table["task.name"].to_pylist()}
    return sorted({task.model_fields["name"].default for task in TASKS} - tried)


def three_numbers(study: Study) -> tuple[str, str, str]:
    """How many runs had their event, when half of those had, and what a run costs."""
    import numpy as np
    import polars as pl

    from analysis.report import finding

    steps = study.events.filter(pl.col("status") == "eureka")["eureka_step"]
    when = "no run had its event"
    if len(steps):
        low, middle, high = np.quantile(steps.to_numpy(), (0.25, 0.5, 0.75))
        when = f"half of their events by step {middle:,.0f} (quartiles {low:,.0f}–{high:,.0f}), n={len(steps):,}"
    seconds = study.runs["seconds"].drop_nulls().to_numpy()
    cost = (
        f"mean time of a run: {seconds.mean():.1f} s of one process, n={len(seconds):,}"
        if len(seconds)
        else "no run has ended"
    )
    return finding(study)[1], when, cost


@click.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page's folder; in the first store unless given.")
def main(stores: tuple[Path, ...], out: Path | None) -> None:
    """Write the gallery of the shipped sweeps that the STORES hold."""
    click.echo(str(write_gallery(stores, out or stores[0] / "gallery")))


if __name__ == "__main__":
    main()
