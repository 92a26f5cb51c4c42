"""Figures that a command of their own draws, from readings of `eureka probe` or weights: a picture and its table."""

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style


def keep(found: pl.DataFrame, *, draw: Callable[[pl.DataFrame], Figure], out: str) -> None:
    """Write the picture of a table, and the table beside it; says where."""
    path = Path(out)
    with style.look():
        draw(found).savefig(path, dpi=160)
    found.write_csv(path.with_suffix(".csv"))
    print(f"{path}: {found['run_id'].n_unique()} runs; the numbers are in {path.with_suffix('.csv')}")


def command(name: str, main: Callable[..., None]) -> None:
    """Call with the command line's arguments; what is wrong is one line that begins with the figure's name."""
    try:
        main(*sys.argv[1:])
    except AnalysisError as error:
        sys.exit(f"{name}: {error}" if not str(error).startswith(name) else str(error))
