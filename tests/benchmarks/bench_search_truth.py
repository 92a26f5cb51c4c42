"""Samplers against chance where the truth is declared: runs until they have asked for one of the best configs.

Nothing is trained: a config's runs are drawn from the law that `workloads/tasks/declared.py` declares, asked and told
through the strategies and studies that real searches use.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.search.objectives import Score
from orchestrator.search.proposal import Answer, Outcome, Proposal
from orchestrator.search.request import Search
from orchestrator.search.sampled import Recorder, Sampled
from orchestrator.search.samplers import quiet
from orchestrator.search.storage import Address
from orchestrator.search.study import Book
from orchestrator.sweep import sweep_from_text
from tests.benchmarks.timing import machine, options, table, tell
from workloads.tasks.declared import Truth, truth

TITLE = "Searches against chance, where the truth is known"
FIGURE = Path(__file__).parents[2] / "orchestrator" / "search" / "against_chance.svg"
SAMPLERS = ("random", "qmc", "tpe", "gp", "cmaes", "nsga2")
COLOURS = {
    "random": "#777777",
    "qmc": "#b0b0b0",
    "tpe": "#0072b2",
    "gp": "#d55e00",
    "cmaes": "#009e73",
    "nsga2": "#cc79a7",
}
HORIZON = 800
BATCH = 4  # configs asked in one go
SEEDS = 8
NEAR = 0.05  # of the best: P(eureka) no more than this below it
TEXT = """
base:
  task:
    name: declared
    chance: 0.95 / (1 + exp(-(5 - 8 * (log10(optim.lr) + 2.7)**2 - 5 * log(model.attention.temperature / 0.6)**2
      - 60 * (optim.weight_decay - 0.08)**2)))
    median_steps: 350 * (optim.lr / 2e-3)**-0.4
  model: {name: declared}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 800, batch: 1}
search:
  name: NAME
  space:
    optim.lr: {log_range: [1.0e-5, 1.0e-1]}
    model.attention.temperature: {log_range: [0.1, 10]}
    optim.weight_decay: {range: [0, 0.5]}
  objective: {p_eureka: {by_step: 800}}
  configs: 40
  batch: 4
  seed: SEED
replicates: 8
"""


@dataclass(frozen=True)
class Trace:
    """One search: after each trial, the truth of what was asked, and of what looked best so far."""

    asked: list[float]
    chosen: list[float]

    def first_near(self, best: float) -> int | None:
        """Trials until one near the best was asked; None where none was."""
        return next((i + 1 for i, value in enumerate(self.asked) if value >= best - NEAR), None)


def searched(name: str, *, seed: int, trials: int, folder: Path) -> Trace:
    """One search, told of runs that are drawn from the truth."""
    search = sweep_from_text(TEXT.replace("NAME", name).replace("SEED", str(seed)), file="truth.yaml").search
    assert search is not None
    book = Book(
        Address(folder=folder, name="truth"), space=search.space, goals={"p_eureka": True}, identity={}, sampler=name,
        options=search.options, seed=seed,
    )  # fmt: skip
    strategy = Sampled(Recorder(book, space=search.space, asked=search.asked), name=name, together=1)
    rng, found = np.random.default_rng([seed, 7]), Trace([], [])
    looks: list[tuple[Score, float]] = []
    while len(found.asked) < trials:
        asked = strategy.ask(most_runs=BATCH * SEEDS)
        for one in asked:
            law = truth(search.space.config(one.params))
            strategy.tell(Answer(proposal=one, outcomes=drawn(one, law, rng=rng)))
            looks.append((book.trials[one.trial].scores["p_eureka"], law.chance_by(HORIZON)))
            found.asked.append(law.chance_by(HORIZON))
            most = max(score.value for score, _ in looks)
            found.chosen.append(statistics.mean(real for score, real in looks if score.value == most))
    book.close()
    return found


def drawn(one: Proposal, law: Truth, *, rng: np.random.Generator) -> tuple[Outcome, ...]:
    """Runs as the law has them."""
    steps = [law.ever_quantile(luck) for luck in rng.random(len(one.replicates))]
    return tuple(
        Outcome(
            replicate=i, status="finished", event_step=int(step) if step <= HORIZON else None, steps=HORIZON,
            budget=HORIZON, final_loss=None,
        )
        for i, step in zip(one.replicates, steps, strict=True)
    )  # fmt: skip


def best_chance(search: Search, *, draws: int = 20_000) -> tuple[float, float]:
    """The best config's P, and the share of the space that is near it."""
    rng = np.random.default_rng(0)
    values = [truth(search.space.config(search.space.draw(rng))).chance_by(HORIZON) for _ in range(draws)]
    return max(values), sum(value >= max(values) - NEAR for value in values) / draws


def compared(*, trials: int, repetitions: int) -> dict[str, list[Trace]]:
    """So many searches by each sampler."""
    shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    found: dict[str, list[Trace]] = {}
    for name in SAMPLERS:
        found[name] = []
        for seed in range(repetitions):
            folder = Path(tempfile.mkdtemp(dir=shared))
            try:
                found[name].append(searched(name, seed=seed, trials=trials, folder=folder))
            finally:
                shutil.rmtree(folder)
    return found


def summary(traces: Sequence[Trace], *, best: float, trials: int) -> tuple[list[float], str]:
    """Runs until near the best, by search, those that never came there at one trial more than all; and how many did."""
    firsts = [trace.first_near(best) for trace in traces]
    runs = [float(SEEDS * (trials + 1 if first is None else first)) for first in firsts]
    return runs, f"{sum(first is not None for first in firsts)} of {len(firsts)}"


def rows_of(found: dict[str, list[Trace]], *, best: float, trials: int) -> list[list[str]]:
    """The table."""
    rows, chance = [], summary(found["random"], best=best, trials=trials)[0]
    for name, traces in found.items():
        runs, there = summary(traces, best=best, trials=trials)
        low, middle, high = statistics.quantiles(runs, n=4)
        ratio = statistics.median(runs) / statistics.median(chance)
        last = statistics.median(trace.chosen[-1] for trace in traces)
        most = SEEDS * trials
        shown = [f"> {most}" if value > most else f"{value:.0f}" for value in (low, middle, high)]
        rows.append([name, f"{shown[1]} ({shown[0]}–{shown[2]})", f"{ratio:.2f}", there, f"{best - last:.3f}"])
    return rows


def draw(found: dict[str, list[Trace]], *, best: float, path: Path) -> None:
    """The truth of the config that looks best, against the runs it took: medians, and quartiles of three."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "eureka"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
    for name, traces in reversed(found.items()):
        chosen = np.array([trace.chosen for trace in traces])
        runs = SEEDS * np.arange(1, chosen.shape[1] + 1)
        low, middle, high = np.quantile(chosen, [0.25, 0.5, 0.75], axis=0)
        axes.plot(runs, middle, color=COLOURS[name], lw=1.8, label=name)
        if name in ("random", "tpe", "gp"):
            axes.fill_between(runs, low, high, color=COLOURS[name], alpha=0.15, lw=0)
    axes.axhline(best, color="black", lw=0.8, ls=":")
    axes.annotate("best of the space", (1, best), xytext=(-4, 3), textcoords="offset points",
                  xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)  # fmt: skip
    axes.set(
        xlabel="runs trained [runs]", ylabel=f"true P(eureka by step {HORIZON}) of the config\nthat looks best so far"
    )
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="fewer repetitions")
    given = asked.parse_args(argv)
    quiet()
    trials, repetitions = (24, 4) if given.quick else (40, 20)
    search = sweep_from_text(TEXT.replace("NAME", "random").replace("SEED", "0"), file="truth.yaml").search
    assert search is not None
    best, share = best_chance(search)
    found = compared(trials=trials, repetitions=repetitions)
    if given.write:
        draw(found, best=best, path=FIGURE)
    head = [
        "sampler",
        "runs until near the best",
        "over random's",
        "searches that got there",
        "P short of best, at the end",
    ]
    text = (
        f"{machine()}.\n\nThree settings; the best config has P(eureka by step {HORIZON}) = {best:.2f}, and "
        f"{100 * share:.1f} % of the space comes within {NEAR} of it. {repetitions} searches each, {SEEDS} seeds a "
        f"config, {BATCH} asked at a time, {trials} in all; median (quartiles). The last column: how far the config "
        f"that looks best after {SEEDS * trials} runs is below the best, median.\n\n"
        + table(head, rows_of(found, best=best, trials=trials))
        + "\n\nFigure: `orchestrator/search/against_chance.svg`."
    )
    tell(TITLE, text, is_kept=given.write)


if __name__ == "__main__":
    main()
