"""Who was watched, who left, and how: the life table that every estimate is a sum over, any number of groups at once.

A run leaves in one of three ways. It has its eureka. It can no longer have one (it diverged, or was solved gradually):
a competing exit, which is not censoring, since such a run will never succeed. Or it was stopped while it still might:
censored. A run that was begun from the weights of another, chosen because that one had no eureka yet, is watched from
its `entry_step` on and counts at risk only after it.
"""

from collections.abc import Sequence

import polars as pl

from analysis.errors import AnalysisError, NoRuns, NoSuchColumn

_ALL = "_all"  # the one group, where none is asked for
_WAYS = ["n_eureka", "n_lost", "n_censored"]
_START = -1.0  # before step 0: exits at step 0 come after the row that the curve starts from


def exits(events: pl.DataFrame, *, by: Sequence[str] = ()) -> pl.DataFrame:
    """When and how each run left: the grouping columns, `exit_step` [steps] and `way`: eureka, lost, censored.

    Where `events` has a column `entry_step` [steps; null: from the beginning], it is kept. Failed runs are left out:
    they say nothing about learning; reports count them.

    Raises:
        NoRuns: no run but failed ones.
        NoSuchColumn: a grouping column is not in `events`.
        AnalysisError: a run that left before it entered.
    """
    missing = [name for name in by if name not in events.columns]
    if missing:
        raise NoSuchColumn(f"events: by: got {missing[0]!r}; expected columns of EVENTS or joined settings")
    kept = events.filter(pl.col("status") != "failed")
    if kept.is_empty():
        raise NoRuns(f"events: {events.height} runs, none of which ran; expected at least one that did not fail")
    columns: dict[str, pl.Expr] = {"exit_step": exit_step(), "way": way()}
    if "entry_step" in events.columns:
        columns["entry_step"] = pl.col("entry_step").cast(pl.Float64)
    left = kept.select(*by, **columns)
    if "entry_step" in left.columns and (late := left.filter(pl.col("entry_step") >= pl.col("exit_step"))).height:
        entry, end = late.row(0, named=True)["entry_step"], late.row(0, named=True)["exit_step"]
        way_out = "leave such runs out: nothing of them was watched"
        raise AnalysisError(f"events: entry_step: got {entry:g}; expected one before the exit at {end:g}. {way_out}")
    return left


def at_risk(events: pl.DataFrame, *, at_steps: Sequence[float], by: Sequence[str] = ()) -> pl.DataFrame:
    """How many runs were watched just before each of the given steps, and had not left: those that a curve rests on.

    Returns:
        One row a (group, step), sorted: the grouping columns; step [steps]; at_risk [runs], which entered before the
        step, those begun from the start among them at every step.

    Raises:
        As `exits`.

    Checked by: test_life_table.py::test_runs_at_risk_are_those_of_the_curve
    """
    left = exits(events, by=by)
    entry = pl.col("entry_step").fill_null(_START) if "entry_step" in left.columns else pl.lit(_START)
    entered = pl.when(entry > 0).then(entry).otherwise(_START) < pl.col("step")
    steps = pl.DataFrame({"step": [float(step) for step in at_steps]}, schema={"step": pl.Float64})
    counts = (entered & (pl.col("exit_step") >= pl.col("step"))).sum().cast(pl.Int64)
    found = left.join(steps, how="cross").group_by([*by, "step"]).agg(at_risk=counts)
    return found.sort([*by, "step"], nulls_last=True)


def way() -> pl.Expr:
    """How a run left: eureka, lost (it can have none any more) or censored (it still might)."""
    lost = (pl.col("status") == "diverged") | (pl.col("kind") == "gradual")
    return (
        pl.when(pl.col("status") == "eureka")
        .then(pl.lit("eureka"))
        .when(lost)
        .then(pl.lit("lost"))
        .otherwise(pl.lit("censored"))
    )


def exit_step() -> pl.Expr:
    """When it left [steps]."""
    return (
        pl.when(pl.col("status") == "eureka").then("eureka_step")
        .when(pl.col("kind") == "gradual").then(pl.coalesce("solved_step", "end_step"))
        .otherwise(pl.coalesce("censored_step", "end_step"))
        .cast(pl.Float64)
    )  # fmt: skip


def life_table(events: pl.DataFrame, *, by: Sequence[str]) -> tuple[list[str], pl.DataFrame]:
    """One row a (group, exit step), sorted, from a row at step 0.

    Returns:
        The names of the grouping columns (one made up, where `by` is empty), and the table: those columns; step
        [steps]; n_eureka, n_lost, n_censored: exits at it; n: runs of the group; at_risk: watched just before it
        [runs]; hazard, of leaving other than by censoring; watched: share still watched after it, and
        watched_before; chance, lost: shares that left by it with a eureka, and without hope of one; variance of
        chance; early: runs censored before it; entered: runs begun before it.
    """
    groups = list(by) or [_ALL]
    left = exits(events, by=by)
    left = left if by else left.with_columns(pl.lit(0).alias(_ALL))
    table = _at_risk(_counts(left, groups=groups), groups=groups)
    leaving = pl.col("n_eureka") + pl.col("n_lost")
    table = table.with_columns(hazard=pl.when(leaving > 0).then(leaving / pl.col("at_risk")).otherwise(0.0))
    table = table.with_columns(watched=(1 - pl.col("hazard")).cum_prod().over(groups))
    before = pl.col("watched").shift(1, fill_value=1.0).over(groups)

    def share(way: str) -> pl.Expr:
        step_up = pl.when(pl.col(way) > 0).then(before * pl.col(way) / pl.col("at_risk")).otherwise(0.0)
        return step_up.cum_sum().over(groups)

    table = table.with_columns(
        step=pl.col("exit_step").clip(lower_bound=0.0),
        watched_before=before,
        chance=share("n_eureka"),
        lost=share("n_lost"),
        early=(pl.col("n_censored").cum_sum() - pl.col("n_censored")).over(groups),
    )
    return groups, table.with_columns(variance=_variance_of_chance(groups))


def effective_runs() -> pl.Expr:
    """Runs that an uncensored estimate of this variance would have; at 0 and 1, all not stopped early [runs].

    Runs that enter later say nothing yet.
    """
    f, n = pl.col("chance"), pl.col("entered").cast(pl.Float64)
    by_variance = (f * (1 - f) / pl.col("variance")).clip(upper_bound=n)
    return pl.when(pl.col("variance") > 0).then(by_variance).otherwise(n - pl.col("early"))


def _counts(left: pl.DataFrame, *, groups: list[str]) -> pl.DataFrame:
    """Exits and entries at each step of each group, sorted; every group begins with a row before step 0."""
    ways = {f"n_{name}": (pl.col("way") == name).sum().cast(pl.Int64) for name in ("eureka", "lost", "censored")}
    counts = left.group_by([*groups, "exit_step"]).agg(**ways).with_columns(n_entered=pl.lit(0, dtype=pl.Int64))
    none = {name: pl.lit(0, dtype=pl.Int64) for name in _WAYS}
    columns, sides = counts.columns, [counts]
    if "entry_step" not in left.columns:
        begun = left.group_by(groups).agg(n_entered=pl.len().cast(pl.Int64), exit_step=pl.lit(_START))
    else:
        late = (pl.col("entry_step") > 0).fill_null(False)
        begun = left.group_by(groups).agg(n_entered=(~late).sum().cast(pl.Int64), exit_step=pl.lit(_START))
        entered = left.filter(late).group_by([*groups, "entry_step"]).agg(n_entered=pl.len().cast(pl.Int64))
        sides.append(entered.rename({"entry_step": "exit_step"}).with_columns(**none).select(columns))
    table = pl.concat([*sides, begun.with_columns(**none).select(columns)])
    if len(sides) > 1:  # a step may see both
        table = table.group_by([*groups, "exit_step"]).agg(pl.col("n_entered", *_WAYS).sum())
    return table.sort([*groups, "exit_step"], nulls_last=True)


def _at_risk(counts: pl.DataFrame, *, groups: list[str]) -> pl.DataFrame:
    """Adds n, entered (before the step), at_risk (and not yet left), and drops steps at which runs only entered."""
    leaving = pl.sum_horizontal(_WAYS)
    net = pl.col("n_entered") - leaving
    before = (net.cum_sum() - net).over(groups)
    is_start = pl.col("exit_step") == _START
    entered = (pl.col("n_entered").cum_sum() - pl.col("n_entered")).over(groups)
    table = counts.with_columns(
        n=leaving.sum().over(groups),
        at_risk=pl.when(is_start).then("n_entered").otherwise(before),
        entered=pl.when(is_start).then("n_entered").otherwise(entered),
    )
    return table.filter(is_start | (leaving > 0)).drop("n_entered")


def _variance_of_chance(groups: list[str]) -> pl.Expr:
    """Var P(eureka by step) at each row, from running sums [fraction squared]; Greenwood's where nothing is lost.

    Source: the multinomial delta method, expanded so that running sums suffice; see `survival._derivatives`.
    Checked by: test_survival.py::test_uncensored_chance_is_k_over_n_with_wilsons_interval, ::test_greenwoods_*
    """
    d1, d, y = pl.col("n_eureka"), pl.col("n_eureka") + pl.col("n_lost"), pl.col("at_risk")
    f, before = pl.col("chance"), pl.col("watched_before")
    left = d > 0

    def total(term: pl.Expr) -> pl.Expr:
        return pl.when(left).then(term).otherwise(0.0).cum_sum().over(groups)

    a = pl.when(y > d).then(d / (y * (y - d))).otherwise(0.0)  # after the last exit nothing can change
    b = before**2 * d1 * (y - d1) / y**3
    c = before * d1 / y**2
    variance = f**2 * total(a) - 2 * f * total(f * a) + total(f**2 * a) + total(b) - 2 * f * total(c) + 2 * total(f * c)
    return pl.when(variance > 1e-14).then(variance).otherwise(0.0)
