"""Files that are torn, cut short, empty or have a bit flipped: of saved states, the journal, and drafts."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from tests.chaos.page import KILL
from tests.chaos.scene import Fault, Scene, TooLateError, blow

Damage = Callable[[Path, Random], None]


def cut_short(path: Path, rng: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))] if data else b"")


def emptied(path: Path, rng: Random) -> None:
    path.write_bytes(b"")


def bits_flipped(path: Path, rng: Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 1, 2, 8]) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def torn(path: Path, rng: Random) -> None:
    """A page of it never reached the disk."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(0, max(1, len(data)), 512)
    data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)


def saved_states(scene: Scene, rng: Random, *, damage: Damage) -> list[str]:
    victim = scene.saved(rng)
    victim.end()
    there = sorted((scene.store / "checkpoints").glob("*.npz"))
    if not there:
        raise TooLateError
    for path in there:
        damage(path, rng)
    return []


def journal(scene: Scene, rng: Random, *, damage: Damage) -> list[str]:
    """Kill the command in the middle of a commit, and damage what it noted of it."""
    path, victim = scene.store / ".pending", scene.victim(rng)
    for _ in range(40):
        blow(victim, after=rng.randint(1, 8), strike=KILL)
        victim.wait()
        scene.on_time(victim)
        if path.exists():
            break
        victim = scene.victim(rng, most=20)
    else:
        raise TooLateError
    damage(path, rng)
    return []


def strange_journal(path: Path, rng: Random) -> None:
    """Well-formed, and nonsense."""
    name = rng.choice(["../../eureka", "", "x", None, 3])
    path.write_text(json.dumps(rng.choice([[], {}, 1, {"block": name}, {"block": name, "replaces": [name]}])))


def drafts(scene: Scene, rng: Random, *, damage: Damage) -> list[str]:
    """Kill the command with a draft half-written beside its place, and damage the draft."""
    victim = scene.victim(rng)
    for _ in range(40):
        blow(victim, after=rng.randint(1, 12), strike=KILL)
        victim.wait()
        scene.on_time(victim)
        if there := sorted(scene.store.rglob(".*.tmp")):
            break
        victim = scene.victim(rng, most=20)
    else:
        raise TooLateError
    for path in there:
        damage(path, rng)
    return []


def records(scene: Scene, rng: Random, *, damage: Damage) -> list[str]:
    """What commands note for themselves and their workers: the sweep's record, cohorts, claims, progress."""
    victim = scene.victim(rng)
    victim.end()
    folder = scene.store / "sweeps" / scene.question
    for path in [*folder.glob("*.json"), *folder.glob("cohorts/*.json"), *folder.glob("claims/*.json")]:
        damage(path, rng)
    return []


DAMAGES: dict[str, Damage] = {
    "cut short": cut_short,
    "emptied": emptied,
    "bits flipped": bits_flipped,
    "a page torn": torn,
}
FAULTS = (
    *(
        Fault("damaged files", f"saved states {how}", partial(saved_states, damage=do), shows=("will start afresh",))
        for how, do in DAMAGES.items()
    ),
    *(
        Fault("damaged files", f"the journal {how}", partial(journal, damage=do), shows=(".pending", "no ledger file"))
        for how, do in (DAMAGES | {"saying nonsense": strange_journal}).items()
    ),
    *(Fault("damaged files", f"drafts {how}", partial(drafts, damage=do)) for how, do in DAMAGES.items()),
    *(
        Fault(
            "damaged files",
            f"records {how}",
            partial(records, damage=do),
            shows=("sweep.json", "claims/", "cohorts/", "progress"),
        )
        for how, do in DAMAGES.items()
    ),
)
