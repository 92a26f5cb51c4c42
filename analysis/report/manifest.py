"""What a report was made from, as hashes, so that a later one draws again only what has changed.

Everything a figure shows follows from the events, the runs' curves (a run's id fixes its curve), the sweep's record
and the code. Their hash, with the figure's name, is its key; a figure whose key stands in the manifest beside its
files is read back instead of made.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from analysis.figures.stored import metric_names
from analysis.study import Study

NAME = "manifest.json"
PACKAGES = ("polars", "numpy", "scipy", "matplotlib", "scikit-learn", "lifelines", "typst")
_OF_RUNS = ("run_id", "status", "reason", "steps", "online_event_step")


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Of every source file of the analysis: the version of detectors and estimators."""
    folder = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("report/*.*")]):
        if path.suffix in {".py", ".html", ".md", ".css", ".js", ".typ"}:
            found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of the packages that a number or a picture could depend on; those not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def input_hashes(study: Study) -> dict[str, str]:
    """Of the events, the runs, the digest's size and the sweep's record."""
    there = [name for name in _OF_RUNS if name in study.runs.columns]
    levels = sorted(name for name in study.runs.columns if name.startswith("level."))
    record = {key: value for key, value in study.record.items() if key != "runs"}
    facts = {"record": record, "metrics": metric_names(study), "planned": study.planned, "bins": study.digest.height}
    trials = {"trials": _hash(study.search.trials.write_csv())} if study.search else {}
    return trials | {
        "events": _hash(study.events.write_csv()),
        "runs": _hash(study.runs.select(*there, *levels).write_csv()),
        "sweep": _hash(json.dumps(facts, sort_keys=True, default=str)),
    }


def key_of(name: str, *, inputs: Mapping[str, str], study: Study) -> str:
    """A figure's key."""
    parts = {"figure": name, "inputs": dict(inputs), "code": code_hash(), "versions": versions()}
    return _hash(json.dumps(parts | {"detector": str(study.detector)}, sort_keys=True))


def manifest(study: Study, *, inputs: Mapping[str, str], figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The file's text."""
    record = {
        "sweep": study.name,
        "detector": {"name": study.detector.name, "definition": str(study.detector)},
        "code": code_hash(),
        "versions": versions(),
        "inputs": dict(inputs),
        "runs": study.runs.height,
        "figures": {name: dict(entry) for name, entry in sorted(figures.items())},
    }
    return json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def earlier(out_dir: Path) -> Mapping[str, Mapping[str, Any]]:
    """Figures of the manifest in a folder; none where there is no readable one."""
    try:
        found = json.loads((out_dir / NAME).read_text())["figures"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _hash(text: str | pl.DataFrame) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()[:16]
