"""Simulated loss curves with known answers, and the tables that hold them.

The long families and their noise (AR(1) log-normal, one spike of three times the loss in a thousand steps) are those of
statistics.md section 1.3; the short ones are what this project's runs look like: plateau .95, floor .01, batch noise,
stopped soon after the event.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from analysis.detect import Detector, detect_events

Draw = Callable[[np.random.Generator], tuple[np.ndarray, float]]  # curve [steps], true midpoint [steps], NaN for none
LOGISTIC = 2 * np.log(9)  # exponent of a fall with rise ratio r is LOGISTIC / ln(r)
N = 40  # runs of a family
TASK = {"floor": 0.01, "plateau": 0.95}  # of the short runs [nats]


def ar1_noise(rng: np.random.Generator, *, steps: int, sd: float, rho: float = 0.5) -> np.ndarray:
    """Log-normal factors of mean-log zero, with a spike of three in each thousand [steps]."""
    from scipy.signal import lfilter

    shocks = rng.normal(0, sd * np.sqrt(1 - rho**2), steps)
    shocks[0] = rng.normal(0, sd)
    return np.exp(lfilter([1.0], [1.0, -rho], shocks)) * np.where(rng.random(steps) < 1e-3, 3.0, 1.0)


def fall(t: np.ndarray, *, at: float, ratio: float) -> np.ndarray:
    """One before, zero after: logistic in log t with t90/t10 = ratio [1]."""
    return 1 / (1 + (t / at) ** (LOGISTIC / np.log(ratio)))


def long_family(name: str, *, sd: float, steps: int = 20_000) -> Draw:
    """A curve of 20,000 steps: plateau 2.3, floor 0."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, float]:
        t, at = np.arange(1, steps + 1.0), float(np.exp(rng.uniform(np.log(1500), np.log(12_000))))
        high, low = 2.3, 0.05
        first = 1 + 0.8 * np.exp(-t / 60)
        curve, truth = high * first, np.nan
        if name in ("sharp", "abrupt"):
            ratio = rng.uniform(1.05, 1.4) if name == "sharp" else rng.uniform(1.4, 1.8)
            curve, truth = low + (high - low) * first * fall(t, at=at, ratio=ratio), at
        elif name == "drifting":
            slope = 1 - 0.05 * np.log2(np.maximum(t / 200, 1))
            curve, truth = low + (high - low) * first * slope * fall(t, at=at, ratio=1.2), at
        elif name == "two drops":
            second = min(at * rng.uniform(1.8, 2.5), 15_000)
            truth = second
            one, two = fall(t, at=second / 2.2, ratio=1.2), fall(t, at=second, ratio=1.2)
            curve = low + (high - low) * first * (0.35 * one + 0.65 * two)
        elif name == "power law":
            curve = high * t ** -rng.uniform(0.1, 0.8)
        elif name == "exponential":
            curve = low + (high - low) * np.exp(-t / rng.uniform(500, 6000))
        elif name == "gradual":
            curve = low + (high - low) * fall(t, at=at, ratio=rng.uniform(5, 30))
        elif name == "transient":
            back = fall(t, at=at * 1.3, ratio=1.1)
            curve = low + (high - low) * first * (1 - (1 - fall(t, at=at, ratio=1.1)) * back)
        return curve * ar1_noise(rng, steps=steps, sd=sd), truth

    return draw


def short_run(
    rng: np.random.Generator,
    *,
    at: float | None,
    width: float = 100,
    steps: int = 1500,
    tail: int | None = 200,
    sd: float = 0.07,
    plateau: float = 0.95,
    floor: float = 0.01,
    descent: float = 30,
) -> np.ndarray:
    """The loss of one run of the two-step task as this project sees it; at=None never falls [nats]."""
    end = steps if at is None or tail is None else int(min(steps, at + width / 2 + tail))
    t = np.arange(end, dtype=float)
    share = np.zeros(end) if at is None else 1 / (1 + np.exp(np.clip(-(t - at) / width * LOGISTIC, -50, 50)))
    mean = floor + (plateau - floor + (np.log(4) - plateau) * np.exp(-t / descent)) * (1 - share)
    return np.maximum(mean + rng.normal(0, sd, end) * np.sqrt(np.maximum(mean, 0) / plateau), 1e-6)


def tables(
    curves: Sequence[np.ndarray],
    *,
    floor: float | None = 0.0,
    plateau: float | None = None,
    status: Sequence[str] | None = None,
    settings: dict[str, Sequence[object]] | None = None,
    metric: str = "loss",
) -> tuple[pl.DataFrame, pl.LazyFrame]:
    """RUNS and METRICS holding these curves, one run a curve."""
    n = len(curves)
    ids = [f"{i:016x}" for i in range(n)]
    level = dict.fromkeys(("level.loss_floor", "level.loss_plateau"), pl.Float64)
    runs = pl.DataFrame(
        {
            "run_id": ids,
            "config_id": ["c" * 16] * n,
            "status": list(status or ["finished"] * n),
            "reason": ["budget"] * n,
            "steps": [len(curve) for curve in curves],
            "online_event_step": pl.Series([None] * n, dtype=pl.Int64),
            "level.loss_floor": [floor] * n,
            "level.loss_plateau": [plateau] * n,
            **(settings or {}),
        },
        schema_overrides=level,
    )
    lengths = [len(curve) for curve in curves]
    metrics = pl.DataFrame(
        {
            "run_id": np.repeat(ids, lengths),
            "step": np.concatenate([np.arange(k) for k in lengths] or [np.zeros(0)]).astype(np.int32),
            metric: np.concatenate([*curves, np.zeros(0)]).astype(np.float32),
        },
        schema_overrides={"run_id": pl.String},
    )
    return runs, metrics.lazy()


def detected_family(name: str, *, sd: float, n: int = N, seed: int = 1) -> pl.DataFrame:
    """EVENTS of runs of a long family, with the `truth` [steps]."""
    rng = np.random.default_rng(seed)
    curves, truth = zip(*(long_family(name, sd=sd)(rng) for _ in range(n)), strict=True)
    runs, metrics = tables(curves)
    return detect_events(metrics, runs=runs).with_columns(truth=pl.Series(truth))


def detected_short(n: int = N, *, seed: int = 0, **options: object) -> pl.DataFrame:
    """EVENTS of short runs that are drawn alike."""
    rng = np.random.default_rng(seed)
    runs, metrics = tables([short_run(rng, **options) for _ in range(n)], **TASK)  # type: ignore[arg-type]
    return detect_events(metrics, runs=runs)


def detected_one(
    curve: np.ndarray, *, status: str = "finished", detector: str | Detector = "contrast-1"
) -> dict[str, object]:
    """The event of one curve."""
    runs, metrics = tables([curve], status=[status], **TASK)  # type: ignore[arg-type]
    return detect_events(metrics, runs=runs, detector=detector).row(0, named=True)
