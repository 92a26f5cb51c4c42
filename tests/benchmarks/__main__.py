"""Every benchmark: `python -m tests.benchmarks [--quick] [--write]`."""

from __future__ import annotations

import sys

from tests.benchmarks import bench_engine, bench_sweep

if __name__ == "__main__":
    bench_engine.main(sys.argv[1:])
    print()
    bench_sweep.main(sys.argv[1:])
