"""Named, versioned definitions of the event; a changed threshold is a new name.

A name fixes which runs had their eureka and when, to the last digit. Why another had none (`kind`) may be told better
under the same name, as long as what is `gradual` stays.

`contrast-1` is ours and the default, `level-1` the second witness; both also read accuracy. The others are what papers
went by, as far as it is a rule, so that their numbers can be set beside ours: each reads a run's bins as its
evaluations. Their weaknesses are part of them; tests/benchmarks/bench_detector.py measures these.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from analysis.drops import Contrast
from analysis.errors import NoSuchDetector

Method = Literal["contrast", "level", "first", "gains", "acceleration", "epoch"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the rules of the literature go by.

    Attributes:
        threshold: first: the metric's value to reach [metric].
        in_a_row: first: how many evaluations must have it, one after the other [bins].
        session_bins: gains: bins that make one session [bins].
        least_gain: gains: between neighbouring sessions, over what is left to the floor, at least [1].
        critical: gains: of the t-test of three sessions before against three after [1].
        apart_bins: acceleration: how far from the middle the second difference looks [bins].
        epochs: epoch: how many equal parts a run has [epochs].
    """

    threshold: float = 0.9
    in_a_row: int = 1
    session_bins: int = 4
    least_gain: float = 0.25
    critical: float = 2.776
    apart_bins: int = 5
    epochs: int = 100


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A named, versioned definition of the event; a changed threshold is a new name.

    Attributes:
        name: what EVENTS and captions call it.
        method: contrast, the definition of `falls.py`; level, the sustained crossing of `levels.py` alone; or a rule of
            the literature, in `rules.py`.
        metric: the METRICS column it reads.
        falls: whether learning lowers the metric.
        floor: the best value the task allows: a RUNS column, a number, or None for the lowest bin of each run.
        plateau: the task's plateau, likewise; None leaves out the test that the fall leads past half-way from it.
        bin_steps: the narrowest bin [steps].
        contrast: how falls are found.
        least_gap: the fall over what was left to the floor, at least [1].
        most_rise: completion_step over onset_step, at most [1].
        most_drift: fall in the octave before onset, in gaps, at most [1].
        least_plateau_ratio: onset over the end of the fall before it, at least [1].
        least_plateau_bins: bins of plateau between the two, at least [bins].
        settled_bins: bins from completion to the run's end, at least; with 16-step bins, 64 steps [bins].
        solved_share: how far down from plateau to floor counts as solved [1].
        usual_rise: a typical rise ratio, for detectable_step [1].
        rule: what the rules of the literature go by.

    Source: statistics.md section 1.2; validated by tests/analysis/test_detect.py on the curve families of 1.3.
    """

    name: str
    method: Method = "contrast"
    metric: str = "loss"
    falls: bool = True
    floor: str | float | None = "level.loss_floor"
    plateau: str | float | None = "level.loss_plateau"
    bin_steps: int = 16
    contrast: Contrast = field(default_factory=Contrast)
    least_gap: float = 0.5
    most_rise: float = 2.0
    most_drift: float = 0.25
    least_plateau_ratio: float = 1.5
    least_plateau_bins: int = 3
    settled_bins: int = 4
    solved_share: float = 0.5
    usual_rise: float = 1.24
    rule: Rule = field(default_factory=Rule)

    def reading(self, metric: str, *, floor: str | float | None = None, falls: bool = True) -> "Detector":
        """The same definition of another METRICS column; its name gains `:metric`.

        Args:
            metric: the column.
            floor: its best value, a RUNS column or a number; without one, the best bin of each run.
            falls: whether learning lowers it, as it does entropy; False for one that rises, as attention mass.
        """
        name = f"{self.name}:{metric}"
        return replace(self, name=name, metric=metric, floor=floor, plateau=None, falls=falls)


_ACCURACY: dict[str, Any] = {
    "metric": "accuracy",
    "falls": False,
    "floor": "level.accuracy_ceiling",
    "plateau": "level.accuracy_plateau",
}
DETECTORS: dict[str, Detector] = {
    each.name: each
    for each in (
        Detector(name="contrast-1"),
        Detector(name="level-1", method="level"),
        Detector(name="contrast-accuracy-1", **_ACCURACY),
        Detector(name="contrast-kl-1", metric="kl", floor="level.kl_floor", plateau="level.kl_plateau"),
        Detector(name="level-accuracy-1", method="level", **_ACCURACY),
        # Power et al. 2022, arXiv 2201.02177: accuracy of 99% for the first time
        Detector(name="power-1", method="first", rule=Rule(threshold=0.99), **_ACCURACY),
        # Liu et al. 2022, arXiv 2205.10343, released code: accuracy of 90% for the first time
        Detector(name="liu-1", method="first", rule=Rule(threshold=0.9), **_ACCURACY),
        # grokking repositories of 2025-26: ten evaluations of 90% one after the other
        Detector(name="sustained-1", method="first", rule=Rule(threshold=0.9, in_a_row=10), **_ACCURACY),
        # Tang and DeRubeis 1999, J. Consult. Clin. Psychol. 67:894: sudden gains between sessions of psychotherapy
        Detector(name="gains-1", method="gains"),
        # Chen et al. 2024, arXiv 2309.07311: onset is where the metric accelerates most; every run has one
        Detector(name="acceleration-1", method="acceleration", **_ACCURACY),
        # after Hoffmann et al. 2024, arXiv 2310.12956, who name no rule: the first epoch whose accuracy is well above
        # the plateau, and stays there; .65 where the plateau is .5
        Detector(name="epoch-1", method="epoch", solved_share=0.3, **_ACCURACY),
    )
}


def detector_named(name: str) -> Detector:
    """The registered detector of that name.

    Raises:
        NoSuchDetector: there is none; the message lists what there is.
    """
    if name not in DETECTORS:
        raise NoSuchDetector(f"detector: got {name!r}; expected one of {', '.join(DETECTORS)}")
    return DETECTORS[name]
