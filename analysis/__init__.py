"""What the runs say: events, estimates, figures, reports.

Names are imported when first used: workers import `analysis.schema` and `analysis.store`, and must not wait for Polars
or Matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.detect import DETECTORS, Detector, detect_events, detector_named
    from analysis.errors import AnalysisError
    from analysis.estimate import config_table, level_table
    from analysis.frames import metrics, runs
    from analysis.interval import binomial_interval
    from analysis.report import finding, write_report
    from analysis.store import Store
    from analysis.study import Study, open_study
    from analysis.survival import censor_undetectable, chance_by_step, curve, median_step, restricted_mean

_HOME = {
    "AnalysisError": "errors",
    "DETECTORS": "detect",
    "Detector": "detect",
    "Store": "store",
    "Study": "study",
    "binomial_interval": "interval",
    "censor_undetectable": "survival",
    "chance_by_step": "survival",
    "config_table": "estimate",
    "curve": "survival",
    "detect_events": "detect",
    "detector_named": "detect",
    "finding": "report",
    "level_table": "estimate",
    "median_step": "survival",
    "metrics": "frames",
    "open_study": "study",
    "restricted_mean": "survival",
    "runs": "frames",
    "write_report": "report",
}

__all__ = [
    "DETECTORS",
    "AnalysisError",
    "Detector",
    "Store",
    "Study",
    "binomial_interval",
    "censor_undetectable",
    "chance_by_step",
    "config_table",
    "curve",
    "detect_events",
    "detector_named",
    "finding",
    "level_table",
    "median_step",
    "metrics",
    "open_study",
    "restricted_mean",
    "runs",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """The public name, imported now."""
    if name in _HOME:
        return getattr(import_module(f"analysis.{_HOME[name]}"), name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
