"""A search small enough to run in seconds, over a task of declared truth; shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.search.objectives import Score
from orchestrator.search.space import Space
from orchestrator.search.storage import Address
from orchestrator.search.study import Book
from orchestrator.sweep import Sweep, load_sweep

TEXT = """\
question: Which config has its event most surely?
base:
  task:
    name: declared
    chance: 1 / (1 + exp(-(3 - 4 * (log10(optim.lr) + 3)**2)))
    median_steps: "20"
  model: {name: declared}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 60, batch: 2}
search:
  name: random
  space:
    optim.lr: {log_range: [1.0e-5, 1.0e-1]}
    model.width: [2, 4]
    model.attention.temperature: {range: [0.25, 4]}
  objective: {p_eureka: {by_step: 50}}
  configs: 6
  batch: 3
replicates: 2
stop: {after_event_steps: 5}
"""


def search_text(search: str) -> str:
    """The file with another `search:` part, given as YAML below that key."""
    head, _, rest = TEXT.partition("search:\n")
    tail = rest[rest.index("replicates:") :]
    return f"{head}search:\n{search}\n{tail}"


def small_search(folder: Path, *overrides: str, name: str = "small", text: str = TEXT) -> Sweep:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load_sweep(path, overrides=overrides)


def space_of(folder: Path, *overrides: str) -> Space:
    sweep = small_search(folder, *overrides)
    assert sweep.search is not None
    return sweep.search.space


def open_book(
    folder: Path, space: Space, *, sampler: str = "random", seed: int = 0, url: str | None = None, **options: object
) -> Book:
    folder.mkdir(parents=True, exist_ok=True)
    return Book(
        Address(folder=folder, name=folder.name, url=url),
        space=space,
        goals={"p_eureka": True},
        identity={"space": space.record()},
        sampler=sampler,
        options=options,
        seed=seed,
    )


def ask_and_tell(book: Book, values: Sequence[float], *, first: int = 1) -> list[dict[str, object]]:
    """One trial a value, each told before the next is asked; gives what was asked."""
    asked = []
    for i, value in enumerate(values):
        trial = book.ask(round_=first + i, replicates=range(2))
        book.confirm(trial.number, config_id=f"config{trial.number}")
        book.tell(trial.number, scores={"p_eureka": Score(value=value, low=0.0, high=1.0)}, runs=2, events=1)
        asked.append(trial.params)
    return asked
