"""What `eureka report` and `eureka export` write, and the lines that they print; nothing is estimated here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import BadRequest

if TYPE_CHECKING:
    from analysis.places.object_path import File
    from analysis.store import Store


def report(
    store: Store, *, names: Sequence[str], out: Path | None, detector: str | None = None, pdf: bool = False
) -> list[str]:
    """Write the report of a sweep, or of several and the page that compares them.

    Without a folder it goes into the store: a sweep's beside its record, that of several into STORE/report.

    Returns:
        What to print: five lines a sweep, then the page.

    Raises:
        BadRequest: the folder holds other things, or cannot be written.
    """
    check_out(out)
    from analysis.report import document, finding, write_studies
    from analysis.study import open_study

    if pdf:
        document.require()  # before curves are read
    place = out or (store.path / "report" if len(names) > 1 else store.sweep_dir(names[0]) / "report")
    studies = [open_study(store, sweep=name, detector=detector) for name in names]
    with _writing(place), _folder(place) as folder:
        page = write_studies(studies, out_dir=folder, store=store, pdf=pdf)
    told = []
    for study in studies:
        told += ["", *([f"{study.name}:"] if len(studies) > 1 else []), *finding(study)]
    return [*told, "", f"Report: {place / page.name}"]


def export(store: Store, *, names: Sequence[str], out: Path, formats: Sequence[str], detector: str | None) -> list[str]:
    """Write the tables of a sweep for other tools; of several sweeps, each into a folder of its own name.

    Returns:
        What was written, a line each.

    Raises:
        BadRequest: the folder cannot be written.
    """
    from analysis.export import export as write
    from analysis.export import require
    from analysis.study import open_study

    require(formats)  # before curves are read
    written = []
    for name in names:
        folder = out / name if len(names) > 1 else out
        study = open_study(store, sweep=name, detector=detector)
        with _writing(folder):
            written += write(study, folder, formats=formats)
    return [str(path) for path in written]


def check_out(out: Path | None) -> None:
    """A report replaces what it finds in its folder, so it gets none that holds other things."""
    if out is None or not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / "summary.md").exists()):
        raise BadRequest(f"--out: {out}: is there, and is no report; give a folder of the report's own")


@contextmanager
def _folder(out: File) -> Iterator[Path]:
    """A folder to write in; of a bucket a copy, from which is put back what has changed."""
    if isinstance(out, Path):
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="eureka-report-") as name:
        here, before = Path(name), dict[str, bytes]()
        for one in out.below():
            before[one.key] = (out / one.key).read_bytes()
            (here / one.key).parent.mkdir(parents=True, exist_ok=True)
            (here / one.key).write_bytes(before[one.key])
        yield here
        for path in sorted(path for path in here.rglob("*") if path.is_file()):
            key, data = path.relative_to(here).as_posix(), path.read_bytes()
            if before.get(key) != data:
                (out / key).write_bytes(data)


@contextmanager
def _writing(out: File) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadRequest(f"--out: {out}: cannot be written: {error.strerror or error}") from None
