"""Every benchmark: `python -m tests.benchmarks [--quick] [--write]`; each can be run alone, as a module."""

from __future__ import annotations

import sys

from tests.benchmarks import (
    bench_detection_speed,
    bench_detector,
    bench_engine,
    bench_estimates,
    bench_packing,
    bench_report,
    bench_scale,
    bench_search,
    bench_search_truth,
    bench_serve,
    bench_slots,
    bench_startup,
    bench_sweep,
)

PARTS = (
    bench_engine,
    bench_slots,
    bench_sweep,
    bench_packing,
    bench_startup,
    bench_detector,
    bench_detection_speed,
    bench_estimates,
    bench_report,
    bench_scale,
    bench_search,
    bench_search_truth,
    bench_serve,
)

if __name__ == "__main__":
    for part in PARTS:
        part.main(sys.argv[1:])
        print()
