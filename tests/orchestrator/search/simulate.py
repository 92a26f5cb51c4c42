"""Simulated searches against known truth; `python -m tests.orchestrator.search.simulate` writes RESULTS.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator

from analysis.figures import style
from analysis.interval import binomial_interval
from analysis.sequential import width_rule
from analysis.surface import fit_process
from orchestrator.search.boundary import SPREAD, Boundary, Options, line_prior
from orchestrator.search.replicates import Narrow, Replicates, compared
from orchestrator.search.space import Setting
from tests.orchestrator.search.studies import (
    BUDGET,
    GRID,
    LR,
    STEEP,
    TEMPERATURE,
    as_steep_as,
    chances,
    flat,
    law_of,
    play,
    total_runs,
)

Row = dict[str, Any]


def widths(*, studies: int, widths: Sequence[float], seed: int) -> list[Row]:
    """Seeds until every interval of the grid is narrow: coverage, and runs over those of equal allocation.

    Equal allocation adds a seed to every config until Wilson's plain 95 % interval of each is narrow.
    """
    chances = np.array([law_of(params).chance_by(BUDGET) for params in GRID])
    rows = []
    for width in widths:
        rng, rule = np.random.default_rng(seed), width_rule(width)
        held, asked, equal, widest = [], [], [], []
        for _ in range(studies):
            strategy = Replicates(GRID, Narrow(rule=rule, by_step=BUDGET, most=rule.most))
            asked.append(total_runs(play(strategy, law=law_of, rng=rng, most_runs=10**6)))
            ends = np.array([strategy.goal.interval(runs) for runs in strategy.seen])
            held.append((ends[:, 0] <= chances) & (chances <= ends[:, 1]))
            widest.append((ends[:, 1] - ends[:, 0]).max())
            equal.append(len(GRID) * _equal(chances, width=width, rng=rng))
        rows.append({
            "width": width, "studies": studies, "configs": len(GRID), "coverage": float(np.mean(held)),
            "worst config": float(np.mean(held, axis=0).min()), "widest": float(np.max(widest)),
            "runs": float(np.mean(asked)), "equal runs": float(np.mean(equal)),
            "share of equal runs": float(np.mean(asked) / np.mean(equal)),
        })  # fmt: skip
    return rows


def _equal(chances: np.ndarray, *, width: float, rng: np.random.Generator) -> int:
    """Seeds a config until all plain intervals are narrow at once."""
    hits = rng.random((400, len(chances))) < chances
    events = hits.cumsum(0)
    for n in range(8, 401):
        middle = events[n - 1][np.abs(events[n - 1] / n - 0.5).argmin()]  # the widest interval is the one nearest 1/2
        low, high = binomial_interval(int(middle), n=n)
        if high - low <= width:
            return n
    raise AssertionError("400 runs are too few")


def false_alarms(*, studies: int, chances: Sequence[float], seed: int) -> list[Row]:
    """Two configs of the same P, compared up to 64 runs each with 15 looks: how often they are called different."""
    return [_comparison(chance, chance, studies=studies, seed=seed) for chance in chances]


def differences(*, studies: int, pairs: Sequence[tuple[float, float]], seed: int) -> list[Row]:
    """Two configs of different P: how often, and after how many runs, that is found."""
    return [_comparison(one, other, studies=studies, seed=seed) for one, other in pairs]


def _comparison(one: float, other: float, *, studies: int, seed: int) -> Row:
    rng, goal = np.random.default_rng(seed), compared(2, by_step=BUDGET, most=64)
    different, runs = 0, []
    for _ in range(studies):
        strategy = Replicates([{"a": 1}, {"a": 2}], goal)
        told = play(strategy, law=lambda p: flat(one if p["a"] == 1 else other)(p), rng=rng)
        different += goal.verdicts(strategy.seen)[1] in ("higher", "lower")
        runs.append(total_runs(told))
    return {
        "P": f"{one:g}, {other:g}",
        "studies": studies,
        "different": different / studies,
        "runs": float(np.mean(runs)),
    }


# -- the line on which learning switches on ---------------------------------------------------

AXES = (
    Setting(field=LR, kind="float", low=1e-4, high=1e-1, is_log=True),
    Setting(field=TEMPERATURE, kind="float", low=0.25, high=4.0, is_log=True),
)
DECADES = np.array([3.0, np.log10(16.0)])  # length of the axes
NO_LINE = float(np.hypot(*DECADES))


@cache
def mesh(points: int = 61) -> tuple[np.ndarray, np.ndarray]:
    """Both axes over the unit square."""
    side = np.linspace(0.0, 1.0, points)
    return side, np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


def line_through(height: np.ndarray, *, level: float) -> np.ndarray:
    """Vertices of a level of a surface over the unit square, in decades."""
    side = np.linspace(0.0, 1.0, round(len(height) ** 0.5))
    pieces = contour_generator(side, side, height.reshape(len(side), -1).T).lines(level)
    return np.concatenate(pieces) * DECADES if pieces else np.zeros((0, 2))


@cache
def true_line(steep: float = STEEP) -> np.ndarray:
    """The declared line P(event by the budget) = 1/2, in decades."""
    return line_through(chances_at(mesh(241)[1], steep=steep), level=0.5)


def chances_at(at: np.ndarray, *, steep: float = STEEP) -> np.ndarray:
    """P(event by the budget) at points of the unit square."""
    return chances(1e-4 * 10 ** (3.0 * at[:, 0]), 0.25 * 16.0 ** at[:, 1], steep=steep)


def line_error(mean: Callable[[np.ndarray], np.ndarray], *, steep: float = STEEP) -> float:
    """Distance of a line from the true one [decades]; the square's diagonal where there is none.

    The larger of the mean distances from one to the other and back (Dubuisson and Jain 1994).

    Args:
        mean: of the logit of P, at points of the unit square.
        steep: of the truth [logits a decade].
    """
    found, true = line_through(mean(mesh()[1]), level=0.0), true_line(steep)
    if not len(found):
        return NO_LINE
    distance = np.linalg.norm(found[:, None] - true[None], axis=2)
    return float(max(distance.min(1).mean(), distance.min(0).mean()))


def searched_lines(
    *, runs: Sequence[int], seed: int, batch: int = 8, replicates: int = 1, steep: float = STEEP, **options: Any
) -> list[float]:
    """Errors of one search after so many runs."""
    strategy = Boundary(AXES, by_step=BUDGET, replicates=replicates, options=Options(**options), seed=seed)
    rng, errors, spent, law = np.random.default_rng([seed, 7]), [], 0, as_steep_as(steep)
    for most in runs:
        spent += total_runs(play(strategy, law=law, rng=rng, most_runs=batch * replicates, runs=most - spent))
        process = strategy.process()
        errors.append(NO_LINE if process is None else line_error(process.mean, steep=steep))
    return errors


def grid_line(*, side: int, seeds: int, seed: int, steep: float = STEEP) -> float:
    """Error of a grid of side × side points with so many seeds each, through the same process."""
    rng, (_, at) = np.random.default_rng([seed, 8]), mesh(side)
    events = rng.binomial(seeds, chances_at(at, steep=steep)).astype(float)
    if events.sum() in (0, seeds * len(at)):
        return NO_LINE
    runs = np.full(len(at), float(seeds))
    latent, _ = fit_process(SPREAD * at, events / seeds, runs, prior=line_prior(2), restarts=0)
    return line_error(lambda points: latent(SPREAD * points)[0], steep=steep)


# -- RESULTS.md -------------------------------------------------------------------------------

RUNS = (48, 64, 80, 96, 112, 128)
GRIDS = ((8, 1), (10, 1), (12, 1), (14, 1), (17, 1), (20, 1), (10, 4), (7, 8))
STEEPS = (9.0, 20.0)
HERE = Path(__file__).parent


def everything() -> dict[str, Any]:
    """All simulations: about half an hour on one core."""
    return {
        "widths": widths(studies=500, widths=(0.3, 0.2, 0.15), seed=1),
        "alike": false_alarms(studies=2000, chances=(0.02, 0.1, 0.5, 0.9), seed=1),
        "different": differences(studies=1000, pairs=((0.5, 0.8), (0.1, 0.5), (0.05, 0.95)), seed=1),
        "search": {s: _by_runs([searched_lines(runs=RUNS, seed=i, steep=s) for i in range(20)]) for s in STEEPS},
        "grid": {
            s: {g: [grid_line(side=g[0], seeds=g[1], seed=i, steep=s) for i in range(20)] for g in GRIDS}
            for s in STEEPS
        },
    }


def _table(rows: Sequence[Row]) -> str:
    lines = [" | ".join(rows[0]), " | ".join("---:" for _ in rows[0])]
    lines += [" | ".join(f"{v:.3g}" if isinstance(v, float) and v < 10 else f"{v:,.0f}" if isinstance(v, float)
                         else str(v) for v in row.values()) for row in rows]  # fmt: skip
    return "\n".join(f"| {line} |" for line in lines)


def _by_runs(errors: Sequence[Sequence[float]]) -> dict[int, list[float]]:
    return {n: list(column) for n, column in zip(RUNS, zip(*errors, strict=True), strict=True)}


def _errors(found: dict[str, Any], steep: float) -> list[Row]:
    """Median and largest error of 20 repetitions, by runs."""
    kinds = [(f"search, {n} runs", n, errors) for n, errors in found["search"][steep].items()]
    kinds += [(f"grid {a} × {a}, {b} seeds", a * a * b, errors) for (a, b), errors in found["grid"][steep].items()]
    return [
        {
            "design": name,
            "runs": n,
            "repetitions": len(errors),
            "median error [decades]": float(np.median(errors)),
            "largest": float(max(errors)),
        }
        for name, n, errors in kinds
    ]


def draw(found: dict[str, Any]) -> None:
    """Error of the line over runs, search and grids, for both steepnesses."""
    with style.look():
        figure, panels = style.separate(len(STEEPS), columns=2, width=3.6, height=3.0)
        for axes, steep in zip(panels, STEEPS, strict=True):
            rows = _errors(found, steep)
            for word, marker, colour in (("search", "o", style.BLUE), ("grid", "s", style.ORANGE)):
                some = sorted((r["runs"], r["median error [decades]"]) for r in rows if r["design"].startswith(word))
                axes.plot(*zip(*some, strict=True), marker=marker, color=colour, label=word, linestyle="none" if
                          word == "grid" else "-")  # fmt: skip
            axes.set_xscale("log")
            axes.set_yscale("log")
            style.log_ticks(axes.xaxis, low=40, high=500)
            style.log_ticks(axes.yaxis, low=0.01, high=0.1)
            axes.set_xlabel("runs")
            axes.set_ylabel("error of the line [decades], median")
            axes.set_title(f"{steep:g} logits a decade")
        panels[0].legend()
        (HERE / "boundary.svg").write_text(style.svg(figure, name="boundary"))


def write(found: dict[str, Any]) -> None:
    """RESULTS.md, and the figure beside it."""
    draw(found)
    parts = [
        "# Searches against known truth",
        "Written by `python -m tests.orchestrator.search.simulate`: strategies are asked and told as the driver does "
        "it, runs are drawn from the law that the task `declared` has. The slow tests hold the claims.",
        "## Adaptive replicates",
        "A grid of 7 rates × 5 temperatures; seeds until every interval is narrow. *Equal* gives every config the same "
        "number of seeds until Wilson's plain intervals are narrow. Nominal coverage 0.95.",
        _table(found["widths"]),
        "Two configs of the same P, up to 64 runs each, looked at after every 4 (O'Brien and Fleming, two-sided 0.05): "
        "share of studies that called them different.",
        _table(found["alike"]),
        "Two configs that differ; a design without looks would take 128 runs each time.",
        _table(found["different"]),
        "## The line P = ½",
        "Rate 1e-4 to 1e-1 × temperature 0.25 to 4. Error: mean distance between the found line and "
        "the true one, the larger of both directions [decades of the axes]. Grids are read through the same Gaussian "
        "process, its kernel found from their own runs within the same bounds. 9 logits a decade is what the "
        "fitted surface of `search_boundary.yaml` shows.",
    ]
    for steep in STEEPS:
        parts += [f"### {steep:g} logits a decade", _table(_errors(found, steep))]
    parts.append("![Error of the line over runs](boundary.svg)")
    (HERE / "RESULTS.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(everything())
