"""Tables for other tools: tidy CSV, Parquet and LaTeX of any frame, and TensorBoard event files of a sweep.

TensorBoard's files are written by tensorboardX, which needs no tensor library. Weights & Biases and MLflow are left
out: the one has no format that is written without its client's service process; the other has put its file store into
maintenance and refuses it unless told otherwise, and its database store brings more than twenty packages. Their clients
read the tidy Parquet.
"""

import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from analysis.errors import AnalysisError
from analysis.estimate import config_table
from analysis.results import Result
from analysis.study import Study

FORMATS = ("csv", "parquet", "latex", "tensorboard")
READERS = ("wandb", "mlflow")  # left out, see above
_SUFFIX = {"csv": ".csv", "parquet": ".parquet", "latex": ".tex"}
MOST_LATEX_ROWS = 200  # a longer table is no table of a paper


def csv_text(table: pl.DataFrame) -> str:
    """A table as CSV; floats to six digits, which is more than any was measured to."""
    if not table.width:
        return ""
    floats = [name for name, dtype in table.schema.items() if dtype.is_float()]
    return table.with_columns(pl.col(floats).round_sig_figs(6)).write_csv()


def latex_text(table: pl.DataFrame, *, title: str) -> str:
    """A table as a LaTeX tabular; of a long one its first rows, and a comment that says so."""
    more = table.height - MOST_LATEX_ROWS
    notes = (f"{more} more rows are in the CSV.",) if more > 0 else ()
    return Result(title=title, table=table.head(MOST_LATEX_ROWS), notes=notes).latex()


def write_table(table: pl.DataFrame, path: Path, *, title: str) -> None:
    """One table, in the format that the path's suffix names: .csv, .parquet or .tex.

    Raises:
        AnalysisError: another suffix.
    """
    if path.suffix == ".csv":
        path.write_text(csv_text(table))
    elif path.suffix == ".parquet":
        plain = [pl.col(name).cast(pl.String) for name, dtype in table.schema.items() if dtype == pl.Enum]
        table.with_columns(plain).write_parquet(path, compression="zstd", statistics=False)
    elif path.suffix == ".tex":
        path.write_text(latex_text(table, title=title))
    else:
        raise AnalysisError(f"export: {path.name}: got {path.suffix!r}; expected .csv, .parquet or .tex")


def require(formats: Sequence[str]) -> None:
    """Refuse formats that cannot be written here.

    Raises:
        AnalysisError: an unknown one, or one whose package is not installed.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        way_out = " Its client reads the Parquet." if unknown[0] in READERS else ""
        raise AnalysisError(f"export: format: got {unknown[0]!r}; expected some of {', '.join(FORMATS)}.{way_out}")
    if "tensorboard" in formats:
        _tensorboard()


def export(study: Study, out_dir: str | os.PathLike[str], *, formats: Sequence[str] = ("csv", "parquet")) -> list[Path]:
    """Write the tables of a sweep for other tools.

    Args:
        study: the sweep.
        out_dir: where to; made if need be.
        formats: of FORMATS. csv, parquet and latex: `events` (a row a run) and `configs` (a row a config), each
            with its settings; tensorboard: a folder of event files, one a run, with the curves as bins.

    Returns:
        The files and folders written.

    Raises:
        AnalysisError: an unknown format, or tensorboard without the extra.

    Checked by: test_export.py
    """
    require(formats)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    configs = config_table(study.events, axes=study.axes, at_step=study.horizon_steps, planned=study.planned_cells)
    tables = {"events": study.events, "configs": configs}
    written = []
    for name in dict.fromkeys(formats):
        if name == "tensorboard":
            written.append(write_tensorboard(study, folder / "tensorboard"))
            continue
        for title, table in tables.items():
            path = folder / f"{title}{_SUFFIX[name]}"
            write_table(table, path, title=f"{study.name}: {title}")
            written.append(path)
    return written


def write_tensorboard(study: Study, folder: Path) -> Path:
    """A run a folder: its curve as the detector read it, its settings and what became of it (the HParams page).

    Event files carry the time of writing, so they are not the same bytes twice.
    """
    writer, summary = _tensorboard()
    bins = {str(key[0]): rows for key, rows in study.digest.partition_by("run_id", as_dict=True).items()}
    metric = study.detector.metric
    for row in study.events.iter_rows(named=True):
        run_id = str(row["run_id"])
        with writer(logdir=str(folder / _file_name(run_id)), write_to_disk=True) as sink:
            if (curve := bins.get(run_id)) is not None:
                for step, value in curve.select("at_step", "value").iter_rows():
                    sink.add_scalar(metric, value, int(step))
            settings = {axis: row[axis] if row[axis] is not None else "none" for axis in study.axes}
            outcome = {"eureka": float(row["status"] == "eureka"), "eureka_step": float(row["eureka_step"] or -1)}
            for part in summary.hparams(settings | {"status": row["status"]}, outcome):
                sink.file_writer.add_summary(part)
            for name, value in outcome.items():
                sink.add_scalar(name, value, 0)
    return folder


def _tensorboard() -> tuple[Any, Any]:
    """The writer of tensorboardX, and its module of summaries."""
    try:
        return import_module("tensorboardX").SummaryWriter, import_module("tensorboardX.summary")
    except ImportError:
        raise AnalysisError(
            "export: tensorboard: tensorboardX is not installed. pip install 'eureka[tensorboard]'"
        ) from None


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)
