"""Every target by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fuzz.target import Target


def _written(folder: Path) -> list[Target]:
    from tests.fuzz.written import targets

    return targets(folder)


def _stored(folder: Path) -> list[Target]:
    from tests.fuzz.stored import targets

    return targets(folder)


GROUPS: dict[str, Callable[[Path], list[Target]]] = {
    **dict.fromkeys(("sweep", "override", "cluster", "probe"), _written),
    **dict.fromkeys(("record", "cohort", "journal", "marker", "claim", "checkpoint", "snapshot"), _stored),
    **dict.fromkeys(("ledger", "curves", "digests", "readings"), _stored),
}


def named(name: str, folder: Path) -> Target:
    """A target.

    Args:
        name: one of GROUPS.
        folder: of its own, for its files; made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return next(target for target in GROUPS[name](folder) if target.name == name)
