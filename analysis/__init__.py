"""What the runs say: events, estimates, figures, reports.

Names are imported when first used: workers import `analysis.schema` and `analysis.store`, and must not wait for Polars
or Matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.design_weights import exempt_chance, weighted_chance
    from analysis.detect import (
        DETECTORS,
        Detector,
        detect_events,
        detector_named,
        drops_of,
        stored_events,
        with_measured_rise,
    )
    from analysis.effects import compare
    from analysis.errors import AnalysisError
    from analysis.estimate import config_table, level_table
    from analysis.final import final_metric_table
    from analysis.frames import metrics, runs
    from analysis.interval import binomial_interval
    from analysis.laws import fit_law, law_of
    from analysis.levels import level_times
    from analysis.models.cox import log_rank
    from analysis.models.ever import chance_ever
    from analysis.models.regression import model
    from analysis.models.rows import ModelFit
    from analysis.models.times import needs_intervals
    from analysis.models.turnbull import interval_curve
    from analysis.multiplicity import adjust
    from analysis.multiverse import conclusions, stored_multiverse
    from analysis.paired import paired_comparison
    from analysis.power import fisher_power, logrank_events, runs_for_width, time_ratio_events, wilson_width
    from analysis.report import finding, write_comparison, write_report, write_study
    from analysis.restart import cost_by_step, restart_step
    from analysis.results import Result
    from analysis.store import Store
    from analysis.study import Study, open_study
    from analysis.surface import Surface, fit_surface
    from analysis.survival import (
        cell_estimates,
        censor_undetectable,
        chance_by_step,
        curve,
        median_step,
        restricted_mean,
    )

_HOME = {
    "AnalysisError": "errors",
    "DETECTORS": "detect",
    "Detector": "detect",
    "ModelFit": "models.rows",
    "Result": "results",
    "Store": "store",
    "Study": "study",
    "Surface": "surface",
    "adjust": "multiplicity",
    "binomial_interval": "interval",
    "cell_estimates": "survival",
    "censor_undetectable": "survival",
    "chance_by_step": "survival",
    "chance_ever": "models.ever",
    "compare": "effects",
    "conclusions": "multiverse",
    "config_table": "estimate",
    "cost_by_step": "restart",
    "curve": "survival",
    "detect_events": "detect",
    "detector_named": "detect",
    "drops_of": "detect",
    "exempt_chance": "design_weights",
    "final_metric_table": "final",
    "finding": "report",
    "fisher_power": "power",
    "fit_law": "laws",
    "fit_surface": "surface",
    "law_of": "laws",
    "level_table": "estimate",
    "level_times": "levels",
    "interval_curve": "models.turnbull",
    "log_rank": "models.cox",
    "logrank_events": "power",
    "median_step": "survival",
    "metrics": "frames",
    "model": "models.regression",
    "needs_intervals": "models.times",
    "open_study": "study",
    "paired_comparison": "paired",
    "restart_step": "restart",
    "restricted_mean": "survival",
    "runs": "frames",
    "runs_for_width": "power",
    "stored_events": "detect",
    "stored_multiverse": "multiverse",
    "time_ratio_events": "power",
    "weighted_chance": "design_weights",
    "wilson_width": "power",
    "with_measured_rise": "detect",
    "write_comparison": "report",
    "write_report": "report",
    "write_study": "report",
}

__all__ = [
    "DETECTORS",
    "AnalysisError",
    "Detector",
    "ModelFit",
    "Result",
    "Store",
    "Study",
    "Surface",
    "adjust",
    "binomial_interval",
    "cell_estimates",
    "censor_undetectable",
    "chance_by_step",
    "chance_ever",
    "compare",
    "conclusions",
    "config_table",
    "cost_by_step",
    "curve",
    "detect_events",
    "detector_named",
    "drops_of",
    "exempt_chance",
    "final_metric_table",
    "finding",
    "fisher_power",
    "fit_law",
    "fit_surface",
    "interval_curve",
    "law_of",
    "level_table",
    "level_times",
    "log_rank",
    "logrank_events",
    "median_step",
    "metrics",
    "model",
    "needs_intervals",
    "open_study",
    "paired_comparison",
    "restart_step",
    "restricted_mean",
    "runs",
    "runs_for_width",
    "stored_events",
    "stored_multiverse",
    "time_ratio_events",
    "weighted_chance",
    "wilson_width",
    "with_measured_rise",
    "write_comparison",
    "write_report",
    "write_study",
]


def __getattr__(name: str) -> Any:
    """The public name, imported now."""
    if name in _HOME:
        return getattr(import_module(f"analysis.{_HOME[name]}"), name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
