"""A digest: each metric of each run as about a hundred bins, each a median; made with numpy where curves are stored.

Bins are narrow where an event needs them to be. Early on they are `bin_steps` long; later they grow with the step
(about 16 an octave), so that a drop at step 500 and one at step 50,000 are seen alike; towards the run's last step they
shrink again. The last rule is ours: a run that is stopped 200 steps after its event has the event in the last
percent of its log axis, where 16 bins an octave would leave it less than one bin of after-level.

The bin number is a function of the step and the run's length alone. `digest.py` has the same definition in Polars, for
frames that are not in a store; the tests hold the two to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.schema import DIGESTS, METRICS_KEYS, schema

BIN_STEPS = 16  # the narrowest bin of a stored digest [steps]
GROWTH = 2 ** (1 / 16) - 1  # a bin's width over its step, once widths grow: 16 bins an octave
END_SHARE = 8  # towards the end, a bin is at most an eighth of the steps that are left
DIGEST_VERSION = b"1"  # raised when bins or medians change their meaning; other versions are made again from METRICS
VERSION_KEY = b"digest_version"


@lru_cache(maxsize=8)
def bin_numbers(steps: int, *, bin_steps: int = BIN_STEPS) -> np.ndarray:
    """Which bin each step of a run falls into: the integral of 1/width, rounded down.

    The width is max(bin_steps, min(GROWTH * step, (steps - step) / END_SHARE)), so the integral is linear, logarithmic,
    logarithmic backwards, linear.

    Args:
        steps: how many steps the run has, at least 1 [steps].
        bin_steps: the narrowest width [steps].

    Returns:
        The bin number of steps 0 to steps-1, non-decreasing; numbers may be skipped.

    Checked by: test_digest.py::test_bin_widths_follow_the_promised_rule
    """
    s, end = np.arange(steps, dtype=np.float64), float(steps)
    turn = end / (1 + GROWTH * END_SHARE)  # where growing meets shrinking
    first_growth = bin_steps / GROWTH
    tail = bin_steps * END_SHARE  # this many last steps are linear again
    integral = s / bin_steps
    if turn > first_growth:
        at_growth = 1 / GROWTH
        at_turn = at_growth + np.log(turn / first_growth) / GROWTH
        at_tail = at_turn + END_SHARE * np.log((end - turn) / tail)
        grows, shrinks = (s >= first_growth) & (s < turn), (s >= turn) & (s < end - tail)
        last = s >= max(turn, end - tail)
        integral[grows] = at_growth + np.log(s[grows] / first_growth) / GROWTH
        integral[shrinks] = at_turn + END_SHARE * np.log((end - turn) / (end - s[shrinks]))
        integral[last] = at_tail + (s[last] - end + tail) / bin_steps
    numbers = np.floor(integral).astype(np.int32)
    numbers.flags.writeable = False  # it is shared between callers
    return numbers


def digest_rows(curves: pa.Table, *, steps: Mapping[str, int], bin_steps: int = BIN_STEPS) -> pa.Table:
    """DIGESTS rows of a block's curves, every metric of every run.

    Args:
        curves: METRICS rows of one block, in any order [one row a (run, step)].
        steps: how many steps each run has, by run_id; rows of other runs are left out [steps].
        bin_steps: the narrowest bin [steps].

    Returns:
        Columns of DIGESTS, a metric after the other, runs in the order of `curves`. Non-finite and missing values are
        dropped, never averaged; a bin without a finite value has no row.

    Checked by: test_digest.py::test_a_stored_digest_has_the_bits_of_one_made_in_polars
    """
    ids = _coded(curves)
    is_known = np.array([name in steps for name in ids.dictionary.to_pylist()], dtype=bool)
    if not is_known.all():
        curves = curves.filter(pa.array(is_known[ids.indices.to_numpy(zero_copy_only=False)]))
        ids = _coded(curves)
    rows = _placed(curves, ids=ids, steps=steps, bin_steps=bin_steps)
    metrics = [field.name for field in curves.schema if field.name not in METRICS_KEYS and _is_number(field.type)]
    parts = [_digested(name, curves[name].to_numpy(), rows=rows) for name in metrics]
    table = pa.concat_tables(parts) if parts else schema(DIGESTS).empty_table().drop_columns("block")
    block = curves["block"][0] if "block" in curves.column_names and len(curves) else pa.scalar(None, pa.string())
    table = table.add_column(1, schema(DIGESTS).field("block"), pa.repeat(block, len(table)))
    return table.replace_schema_metadata({VERSION_KEY: DIGEST_VERSION})


def is_current(metadata: Mapping[bytes, bytes]) -> bool:
    """Whether a file with this metadata was made by this definition, with bins of BIN_STEPS."""
    return metadata.get(VERSION_KEY) == DIGEST_VERSION


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


@dataclass(frozen=True)
class _Rows:
    """Where each row belongs; rows are in the order of their bins, one number for every bin of every run."""

    names: pa.Array  # of the runs
    run: np.ndarray  # place in `names` [rows]
    step: np.ndarray  # [rows]
    bins: np.ndarray  # ascending [rows]
    order: np.ndarray | None  # that brought them there; None: they were


def _coded(curves: pa.Table) -> pa.DictionaryArray:
    ids = curves["run_id"]
    ids = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
    coded = ids.unify_dictionaries().combine_chunks()
    return coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded


def _placed(curves: pa.Table, *, ids: pa.DictionaryArray, steps: Mapping[str, int], bin_steps: int) -> _Rows:
    run, step, names = ids.indices.to_numpy(zero_copy_only=False), curves["step"].to_numpy(), ids.dictionary
    known = (steps.get(name, 0) for name in names.to_pylist())  # a filtered table's dictionary keeps all names
    numbers = [bin_numbers(max(n, 1), bin_steps=bin_steps) for n in known]
    offsets = np.cumsum([0, *(own[-1] + 1 for own in numbers)])
    bins = np.empty(len(run), np.int64)
    bounds = [*_starts(run), len(run)]
    for low, high in pairwise(bounds):  # a stretch of one run's rows
        own = numbers[run[low]]
        bins[low:high] = own[np.minimum(step[low:high], len(own) - 1)] + offsets[run[low]]
    if (bins[1:] >= bins[:-1]).all():
        return _Rows(names, run, step, bins, None)
    order = np.argsort(bins, kind="stable")
    return _Rows(names, run[order], step[order], bins[order], order)


def _digested(metric: str, values: np.ndarray, *, rows: _Rows) -> pa.Table:
    """One metric's rows, without `block`."""
    values = values if rows.order is None else values[rows.order]
    run, step, bins = rows.run, rows.step, rows.bins
    finite = np.isfinite(values)
    if not finite.all():
        values, run, step, bins = values[finite], run[finite], step[finite], bins[finite]
    first = _starts(bins)
    counts = np.diff(np.r_[first, len(bins)])
    middle = (np.minimum.reduceat(step, first) + np.maximum.reduceat(step, first)) / 2 if len(first) else np.zeros(0)
    of_run = run[first]
    begins = _starts(of_run)
    columns: dict[str, Any] = {
        "run_id": rows.names.take(pa.array(of_run)).cast(pa.string()),
        "metric": pa.repeat(metric, len(first)),
        "bin": np.arange(len(first)) - np.repeat(begins, np.diff(np.r_[begins, len(first)])),
        "at_step": np.maximum(middle, 0.5),  # it has a logarithm
        "value": _medians(values, bins=bins, first=first, counts=counts),
        "n_steps": counts,
    }
    fields = [schema(DIGESTS).field(name) for name in columns]
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns.values(), fields, strict=True)]
    return pa.table(arrays, schema=pa.schema(fields))


def _starts(numbers: np.ndarray) -> np.ndarray:
    """Where each stretch of equal numbers begins."""
    return np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]]) if len(numbers) else np.zeros(0, np.int64)


def _medians(values: np.ndarray, *, bins: np.ndarray, first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of each bin [float64].

    Single-precision values are sorted as whole numbers, the bin in the upper half and the value in the lower: several
    times as fast as sorting by two keys, which would be half of a digest's time.
    """
    lower, upper = first + (counts - 1) // 2, first + counts // 2
    if values.dtype != np.float32:
        values = values[np.lexsort((values, bins))].astype(np.float64)
        return (values[lower] + values[upper]) / 2
    bits = values.view(np.uint32)
    sign = np.uint32(1 << 31)
    keys = bins.astype(np.uint64) << np.uint64(32)
    keys |= np.where(bits & sign, ~bits, bits | sign)  # grows with the value, negative ones included
    keys.sort()

    def at(index: np.ndarray) -> np.ndarray:
        low = keys[index].astype(np.uint32)
        return np.where(low & sign, low ^ sign, ~low).view(np.float32).astype(np.float64)

    return (at(lower) + at(upper)) / 2
