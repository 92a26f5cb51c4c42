"""How much each setting tells of what a search scored: permutation importance of a random forest, with intervals.

A forest is grown on a bootstrap sample of the configs and asked about the others. Importance of a setting: by how much
its squared error grows when that setting's values are shuffled among them, over the variance of the values. Samples of
configs, not of trees, give the interval. What a search asked is no even sample of the space, so this is of the
trials there are.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.models.optional import package

Array = npt.NDArray[np.float64]
FEWEST_TRIALS = 12
SAMPLES, TREES = 40, 30
ABSENT = -1e9  # a setting that is not there, in a forest that wants numbers


def importances(settings: pl.DataFrame, values: Array, *, level: float = 0.95, seed: int = 0) -> pl.DataFrame:
    """Permutation importance of each setting.

    Args:
        settings: a row a trial; words and numbers, null where a setting is not there.
        values: what they scored.
        level: of the interval [fraction].
        seed: of samples, trees and shuffles.

    Returns:
        setting; importance, low, high [share of the variance]; n trials. Empty where there are fewer than 12 trials, or
        all scored alike.

    Raises:
        MissingPackage: scikit-learn is not installed (extra `surface`).

    Source: Breiman 2001, Mach. Learn. 45:5. Computed by scikit-learn.
    Checked by: test_importance.py
    """
    n, variance = len(values), float(np.var(values))
    schema = {"setting": pl.String, "importance": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64}
    if n < FEWEST_TRIALS or not settings.width or variance <= 0:
        return pl.DataFrame(schema=schema)
    ensemble = package("sklearn.ensemble", extra="surface", wanted_by="importances")
    x, rng = _numbers(settings), np.random.default_rng(seed)
    found = []
    for sample in range(SAMPLES):
        kept = rng.integers(n, size=n)
        left = np.setdiff1d(np.arange(n), kept)
        if len(left) < 2:
            continue
        forest = ensemble.RandomForestRegressor(TREES, min_samples_leaf=2, random_state=seed + sample)
        forest.fit(x[kept], values[kept])
        found.append(_grown_errors(forest, x[left], values[left], rng=rng) / variance)
    ends = np.quantile(found, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    columns = [settings.columns, np.mean(found, axis=0), *ends, [n] * settings.width]
    table = pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)
    return table.sort("importance", "setting", descending=[True, False])


def _grown_errors(forest: object, x: Array, values: Array, *, rng: np.random.Generator, shuffles: int = 5) -> Array:
    """Growth of the mean squared error where one column is shuffled."""
    mixed = np.tile(x, (1 + x.shape[1] * shuffles, 1, 1))  # the first as it is, then each column shuffled so often
    for column in range(x.shape[1]):
        for shuffle in range(shuffles):
            mixed[1 + column * shuffles + shuffle, :, column] = rng.permutation(x[:, column])
    predicted = forest.predict(mixed.reshape(-1, x.shape[1])).reshape(len(mixed), -1)  # type: ignore[attr-defined]
    errors = np.mean((predicted - values) ** 2, axis=1)
    return np.asarray(errors[1:].reshape(x.shape[1], shuffles).mean(1) - errors[0])


def _numbers(settings: pl.DataFrame) -> Array:
    columns = []
    for series in settings:
        numeric = series if series.dtype.is_numeric() or series.dtype == pl.Boolean else series.rank("dense")
        columns.append(numeric.cast(pl.Float64).fill_null(ABSENT).to_numpy())
    return np.column_stack(columns)
