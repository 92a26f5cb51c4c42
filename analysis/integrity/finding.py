"""A broken promise of a store: a sentence for people, and the remedy for `mend.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.places.object_path import File

Remedy = Literal["retrain", "aside", "remove", "digest", "yaml", "settle", "none"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A broken promise.

    Attributes:
        text: what is wrong, in one line.
        remedy: retrain (take runs out of the ledger, keeping what there was aside), aside (keep the file elsewhere),
            remove (the file can be made again, or is no one's), digest, yaml (make it again), settle, none.
        block: whose runs are to be trained again, or whose digest is to be made again.
        runs: of these only; none is all of the block.
        files: to be set aside or removed.
    """

    text: str
    remedy: Remedy = "none"
    block: str = ""
    runs: frozenset[str] = frozenset()
    files: tuple[File, ...] = ()
