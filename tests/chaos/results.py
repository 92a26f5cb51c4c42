"""What a run of the bench came to, as RESULTS.md: a row a kind of fault. What stands below the mark is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.chaos.scene import Suffered

PAGE = Path(__file__).with_name("RESULTS.md")
MARK = "<!-- measured above, written by hand below -->\n"
MEANING = """
Survived means: the tables of the finished sweep equal the undisturbed ones in every value, nothing is lost or doubled,
`eureka doctor` is content, no traceback was shown, and the same command went on. Every fault is followed by a
comparison of all that is committed with the undisturbed sweep, every fourth of a sweep by the store's own check, too,
and every sweep's end by `eureka doctor`. Recovery is the time from the fault's end (the command started again, where it
had ended) until a step is trained, or nothing is left to train; with Ray, until more is committed or saved than was.
Steps repeated were trained, and then neither committed nor saved. Commands without Ray are forks of a process that has
imported everything, so their recovery lacks the start of an interpreter; those with Ray have it.

| family | kind | faults | survived | recovery, median [s] | max [s] | steps repeated a fault, median | max |
|---|---|---|---|---|---|---|---|
"""


def page(results: Sequence[Suffered], *, seed: int, asked: int, dear: int, left_out: Sequence[str]) -> str:
    """The measured part of the page."""
    survived = sum(not one.problems for one in results)
    minutes = sum(one.seconds for one in results) / 60.0
    counts = f"{len(results)} of {asked} faults, {survived} survived, in {minutes:.0f} minutes"
    head = f'Seed {seed}: {counts} (`make chaos ARGS="--faults {asked} --seed {seed} --dear {dear}"`).'
    by_kind: dict[tuple[str, str], list[Suffered]] = defaultdict(list)
    for one in results:
        by_kind[one.fault.family, one.fault.kind].append(one)
    rows = [_row(*kind, found) for kind, found in sorted(by_kind.items())]
    notes = [f"- Left out: {why}" for why in left_out]
    for at, one in enumerate(results):
        if one.problems:
            said = " ".join("; ".join(one.problems).split())[:600].replace("<", "&lt;")
            notes.append(f"- Not survived: fault {at + 1}, {one.fault.family}, {one.fault.kind}: {said}")
    lines = ["# Chaos: what was survived", "", head + MEANING.rstrip("\n"), *rows, "", *notes]
    return "\n".join(lines).rstrip() + "\n\n"


def write(text: str) -> None:
    """Replace the measured part, keep the rest."""
    kept = PAGE.read_text().partition(MARK)[2] if PAGE.exists() else ""
    PAGE.write_text(text + MARK + kept)


def _row(family: str, kind: str, found: Sequence[Suffered]) -> str:
    times = [one.recovery_s for one in found if one.recovery_s is not None]
    repeated = [one.repeated_steps for one in found]
    fine = sum(not one.problems for one in found)
    spent = f"{median(times):.2f} | {max(times):.2f}" if times else "– | –"
    return f"| {family} | {kind} | {len(found)} | {fine} | {spent} | {median(repeated):.0f} | {max(repeated)} |"
