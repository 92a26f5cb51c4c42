"""The look that all figures share, and SVG bytes that are equal whenever the table is.

Colours are Okabe and Ito's, which readers with any colour vision can tell apart; ordered levels take a ramp of plasma.
A state is never shown by colour alone: it also has its own marker. Text stays text in the SVG, so it can be searched,
and a dollar in it is a dollar: settings are anybody's words, and no formulas.
"""

import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.labels import short, value_text

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, QUIET, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
OF_WAY = {"eureka": BLUE, "censored": "#8a8a8a", "gradual": ORANGE, "diverged": VERMILLION}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_SERIES, MOST_PANELS = 8, 12
LETTERS_AN_INCH = 13  # of a title of eight points, with room between panels
MOST_LETTERS = 2_000_000  # of an SVG, before its marks are drawn as one picture

_RC: dict[str, Any] = {
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "figure.constrained_layout.use": True, "font.family": ["DejaVu Sans"], "font.size": 9, "axes.titlesize": 9,
    "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": QUIET, "axes.linewidth": 0.8, "hatch.linewidth": 0.6,
    "svg.fonttype": "none", "axes.unicode_minus": False, "path.simplify_threshold": 0.2, "text.parse_math": False,
}  # fmt: skip


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib set to the house look, and back; no display is needed."""
    with matplotlib.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, free of any global state."""
    return Figure(figsize=(width, height), layout="constrained")


def sentence(text: str) -> Figure:
    """What is drawn where there is nothing to draw."""
    figure = new_figure(6, 0.6)
    figure.text(0.02, 0.5, text, va="center", color=QUIET)
    return figure


def svg(figure: Figure, *, name: str) -> str:
    """The figure as SVG text, the same for the same figure; ids are prefixed, so that a page may hold several.

    Where marks alone make it longer than MOST_LETTERS they become one embedded picture; words and axes stay.
    """
    raw = _saved(figure, name=name)
    if len(raw) > MOST_LETTERS:
        figure.set_layout_engine("none")  # it has just been laid out
        for axes in figure.axes:
            for artist in (*axes.lines, *axes.collections):
                artist.set_rasterized(True)
        raw = _saved(figure, name=name)
    text = re.sub(r"<\?xml.*?\?>\s*|<!DOCTYPE.*?>\s*|<metadata>.*?</metadata>\s*", "", raw, flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)  # hundredths of a point
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")


def _saved(figure: Figure, *, name: str) -> str:
    sink = io.StringIO()
    with matplotlib.rc_context(_RC | {"svg.hashsalt": name}):
        figure.savefig(sink, format="svg", dpi=160, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return sink.getvalue()


def ramp(levels: Sequence[object]) -> list[Any]:
    """One colour a level: a plasma ramp for numbers, which are ordered; Okabe and Ito's for names."""
    numeric = all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in levels)
    if numeric and len(levels) > 2:
        shades = matplotlib.colormaps["plasma"]  # up to where it turns pale on white
        return [shades(0.8 * i / (len(levels) - 1)) for i in range(len(levels))]
    cycle = (BLUE, GREEN, PURPLE, ORANGE, SKY, INK, QUIET)  # vermillion is kept for what diverged
    return [cycle[i % len(cycle)] for i in range(len(levels))]


def columns_for(n: int, *, most: int) -> int:
    """How many columns for n panels, so that rows are alike: four in twos, not three and one."""
    return -(-n // -(-n // most)) if n else 1


def panels(n: int, *, columns: int = 3, width: float = 3.1, height: float = 2.5) -> tuple[Figure, list[Axes]]:
    """A figure of n panels that share both axes, left to right and down; unused places stay empty."""
    columns = columns_for(n, most=columns)
    rows = -(-n // columns)
    figure = new_figure(max(width * columns + 0.6, 6.4), height * rows + 0.5)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for spare in grid[n:]:
        spare.set_axis_off()
    for axes in grid[max(n - columns, 0) : n]:
        axes.tick_params(labelbottom=True)
    return figure, list(grid[:n])


def step_axis(axes: Axes, *, horizon: float) -> None:
    """The x axis of optimiser steps from 0."""
    axes.set_xlim(0, horizon * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def panel_title(axis: str, level: object) -> str:
    """`attention temperature = 0.5`, in the short name."""
    return f"{short(axis)} = {value_text(level)}"


def log_step_axis(axes: Axes, *, low: float, high: float) -> None:
    """The x axis of optimiser steps, logarithmic, labelled at a few round steps."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if high / low < 30:  # too few powers of ten to read by
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))


def log_ticks(axis: Axis, *, low: float, high: float, text: Callable[[float], str] | None = None) -> None:
    """Round numbers along a logarithmic axis, written out; more of them where it spans few powers of ten."""
    text = text or brief
    span = math.log10(max(high / low, 1.0 + 1e-9))
    subs = (1.0,) if span > 3 else (1.0, 3.0) if span > 2 else (1.0, 2.0, 5.0) if span > 0.6 else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    if span < 0.3:  # too short for round numbers of one digit
        axis.set_major_locator(MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


def legend_columns(texts: Sequence[str], *, width: float) -> int:
    """How many entries of a legend stand side by side in so many inches."""
    return max(1, min(len(texts), int(width * LETTERS_AN_INCH / (max(map(len, texts), default=0) + 8))))


def wrapped(text: str, *, width: float, lines: int) -> str:
    """A title in at most so many lines of a panel of so many inches, broken between settings where it can be."""
    most = int(width * LETTERS_AN_INCH)
    found: list[str] = []
    for part in text.split(", "):
        if found and len(found[-1]) + len(part) + 2 <= most:
            found[-1] += f", {part}"
        else:
            found += textwrap.wrap(part, most) or [""]
    if len(found) > lines:
        found = [*found[: lines - 1], "…" + found[-1][1 - most :]]  # what tells panels apart comes last
    return "\n".join(found)


def brief(value: float) -> str:
    """A step in few letters: 300, 2k, 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def separate(n: int, *, columns: int = 3, width: float = 3.3, height: float = 2.6) -> tuple[Figure, list[Axes]]:
    """A figure of n panels with axes of their own."""
    columns = columns_for(n, most=columns)
    rows = -(-n // columns)
    figure = new_figure(max(width * columns + 0.4, 5.0), height * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[n:]:
        spare.set_axis_off()
    return figure, list(grid[:n])
