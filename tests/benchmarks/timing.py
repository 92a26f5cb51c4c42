"""Side-by-side timing: contestants take turns, and ratios are taken within a turn."""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, process_time

RESULTS = Path(__file__).with_name("RESULTS.md")


def interleaved(contestants: Mapping[str, Callable[[], int]], *, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(CPU, wall) speed of each contestant in each round; a call does some work and returns how much."""
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for work in contestants.values():
        work()  # warm up
    for _ in range(rounds):
        for name, work in contestants.items():
            cpu, wall = process_time(), perf_counter()
            done = work()
            speeds[name].append((done / (process_time() - cpu), done / (perf_counter() - wall)))
    return speeds


def spread(values: list[float], *, digits: int = 2) -> str:
    """Median and quartiles."""
    if len(values) < 4:
        return f"{statistics.median(values):.{digits}f} ({', '.join(f'{v:.{digits}f}' for v in values)})"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def machine() -> str:
    """CPU and versions, in one line."""
    from importlib.metadata import version
    from importlib.util import find_spec

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    found = [name for name in ("torch", "numpy", "ray") if find_spec(name)]
    packages = ", ".join(f"{name} {version(name)}" for name in found)
    return f"{cpu}; Python {platform.python_version()}, {packages}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def options(purpose: str | None, *, quick: str) -> argparse.ArgumentParser:
    """What every benchmark is asked: `--quick`, with what that means, and `--write`."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--write", action="store_true", help="keep the tables in RESULTS.md")
    return parser


def tell(part: str, text: str, *, is_kept: bool) -> None:
    """Print one part's text, and put it into RESULTS.md if asked to."""
    print(text, end="\n\n")
    if is_kept:
        keep(part, text)


def keep(part: str, text: str) -> None:
    """Put one part's text into RESULTS.md, leaving the other parts."""
    parts: dict[str, str] = {}
    if RESULTS.exists():
        for section in RESULTS.read_text().split("\n## ")[1:]:
            title, _, body = section.partition("\n")
            parts[title] = body.strip()
    parts[part] = text
    top = "# Results\n\nWritten by `make bench ARGS=--write`; every ratio is taken side by side, in one session.\n"
    RESULTS.write_text(top + "".join(f"\n## {title}\n\n{parts[title]}\n" for title in sorted(parts)))
