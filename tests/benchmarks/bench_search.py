"""What a search costs: asking and telling beside many trials, by sampler; and how full it keeps the workers' slots."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
import optuna

from orchestrator.progress import ProgressView, Snapshot
from orchestrator.run import run_sweep
from orchestrator.search.objectives import Score
from orchestrator.search.samplers import Steered, distribution, quiet
from orchestrator.search.space import Setting, Space
from orchestrator.search.storage import Address
from orchestrator.search.study import Book
from orchestrator.sweep import sweep_from_text
from tests.benchmarks.timing import machine, options, spread, table, tell

TITLE = "Searches: asking, telling, and full slots"
BATCH = 8
SAMPLERS = ("random", "qmc", "tpe", "gp", "cmaes", "nsga2", "nsga3")
BY_ITSELF = ("cmaes", "nsga2", "nsga3")  # whose trials carry a population
SLOW = {"gp": 1000}  # with more trials than that it thinks for minutes
SPACE = Space(
    base={},
    settings=(
        Setting(field="model.layers", kind="int", low=1, high=4, is_outer=True),
        Setting(field="optim.lr", kind="float", low=1e-5, high=1e-1, is_log=True),
        Setting(field="optim.weight_decay", kind="float", low=0.0, high=0.3),
        Setting(field="model.attention.temperature", kind="float", low=0.25, high=4.0, is_log=True),
    ),
)
TEXT = """
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 16, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: STEPS, batch: 32}
search:
  name: NAME
  space:
    optim.lr: {log_range: [1.0e-4, 3.0e-2]}
    model.attention.temperature: {log_range: [0.25, 4]}
  objective: rmst
  configs: CONFIGS
replicates: 4
stop: {after_event_steps: 50}
"""


def worth(params: dict[str, object]) -> float:
    """Something to look for, with the noise of a few seeds."""
    lr, temperature = float(params["optim.lr"]), float(params["model.attention.temperature"])  # type: ignore[arg-type]
    noise = np.random.default_rng(int(1e9 * lr)).normal(0.0, 0.1)
    return float(-((math.log10(lr) + 3) ** 2) - math.log(temperature) ** 2 + noise)


def filled(sampler: str, *, trials: int, path: Path) -> None:
    """A journal of so many trials that were asked and told, by chance, or by the sampler where that matters."""
    rng, memory = np.random.default_rng(0), optuna.create_study(study_name="s", direction="maximize")
    if sampler in BY_ITSELF:
        memory.sampler = Steered(sampler, space=SPACE, options={}, seed=0)
        for _ in range(trials):
            trial = memory.ask({one.field: distribution(one) for one in SPACE.settings})
            memory.tell(trial, worth(trial.params))
    else:
        kinds = {one.field: distribution(one) for one in SPACE.settings}
        for _ in range(trials):
            params = SPACE.draw(rng)
            memory.add_trial(optuna.trial.create_trial(value=worth(params), params=params, distributions=kinds))
    memory.set_user_attr("eureka", {})
    shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=shared) as folder:  # ten thousands of small synced writes
        journal = Path(folder) / "study.journal"
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        optuna.copy_study(from_study_name="s", from_storage=memory._storage, to_storage=storage, to_study_name="s")
        shutil.copy(journal, path)


def overheads(*, counts: list[int], rounds: int, is_patient: bool) -> list[list[str]]:
    """Milliseconds of an ask and of a tell, in batches, beside so many trials."""
    rows = []
    for sampler in SAMPLERS:
        for trials in counts:
            if trials > SLOW.get(sampler, trials) and not is_patient:
                rows.append([sampler, f"{trials:,}", "not measured", "", ""])
                continue
            with tempfile.TemporaryDirectory() as folder:
                filled(sampler, trials=trials, path=Path(folder) / "study.journal")
                began = perf_counter()
                book = Book(
                    Address(folder=Path(folder), name="s"), space=SPACE, goals={"p": True}, identity={},
                    sampler=sampler, options={}, seed=0,
                )  # fmt: skip
                opening = perf_counter() - began
                asks, tells = [], []
                for _ in range(1 if sampler in SLOW else rounds):
                    asked = []
                    for _ in range(2 if sampler in SLOW else BATCH):
                        began = perf_counter()
                        trial = book.ask(round_=1, replicates=range(8))
                        book.confirm(trial.number, config_id="c")
                        asks.append(1e3 * (perf_counter() - began))
                        asked.append(trial)
                    for trial in asked:
                        began = perf_counter()
                        book.tell(trial.number, scores={"p": Score(value=worth(trial.params))}, runs=8, events=4)
                        tells.append(1e3 * (perf_counter() - began))
                book.close()
            print(sampler, trials, spread(asks, digits=0), file=sys.stderr)
            rows.append([sampler, f"{trials:,}", spread(asks, digits=0), spread(tells, digits=0), f"{opening:.1f}"])
    return rows


class Watching(ProgressView):
    """Keeps when how many runs were in slots, and how many waited or may still be asked."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.seen: list[tuple[float, int, int]] = []

    def update(self, snapshot: Snapshot) -> None:
        """Keep it."""
        self.seen.append((perf_counter(), snapshot.running, snapshot.waiting))


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def occupancy(sampler: str, *, configs: int, steps: int, workers: int, width: int) -> list[str]:
    """Share of the slots that train, from when all workers have begun until the last run that was asked has."""
    text = TEXT.replace("NAME", sampler).replace("CONFIGS", str(configs)).replace("STEPS", str(steps))
    view = Watching()
    with folder() as made:
        began = time.monotonic()
        run_sweep(
            sweep_from_text(text, file="bench.yaml"), store_path=made / "store", workers=workers, width=width, view=view
        )
        whole = time.monotonic() - began
    slots = workers * width
    first = next(i for i, (_, running, _) in enumerate(view.seen) if running == slots)
    last = max(i for i, (_, _, waiting) in enumerate(view.seen) if waiting > 0)
    area = sum((view.seen[i + 1][0] - view.seen[i][0]) * view.seen[i][1] for i in range(first, last))
    share = area / (slots * (view.seen[last][0] - view.seen[first][0]))
    span = view.seen[last][0] - view.seen[first][0]
    return [sampler, f"{configs} × 4", f"{workers} × {width}", f"{100 * share:.0f} %", f"{span:.0f}", f"{whole:.0f}"]


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="fewer trials")
    asked.add_argument("--patient", action="store_true", help="also what takes minutes an ask")
    given = asked.parse_args(argv)
    quiet()
    counts = [250] if given.quick else [1000, 4000]
    costs = overheads(counts=counts, rounds=2 if given.quick else 4, is_patient=given.patient)
    full = [
        occupancy(sampler, configs=16 if given.quick else 36, steps=800, workers=2, width=8)
        for sampler in ("tpe", "gp")
    ]
    text = (
        f"{machine()}.\n\nFour settings, a journal on disk, asked {BATCH} at a time (so up to {BATCH - 1} trials are"
        " under way), median (quartiles); an ask and a tell make half a dozen synced writes each. What is beside was"
        " asked by chance, for CMA-ES and NSGA by the sampler. Of the Gaussian process the mean of two asks (and each):"
        " the first fits it anew.\n\n"
        + table(["sampler", "trials beside", "ask [ms]", "tell [ms]", "opening [s]"], costs)
        + "\n\nSlots that train while anything is left to train, of two workers on two cores through Ray; two_step, "
        "800 steps at most, told and asked as it goes; as workers report them, every two seconds.\n\n"
        + table(["sampler", "configs × seeds", "workers × slots", "slots in use", "over [s]", "whole [s]"], full)
    )
    tell(TITLE, text, is_kept=given.write)


if __name__ == "__main__":
    main()
