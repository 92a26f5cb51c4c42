"""`bigrams`: letters follow each other as in a text, but for a few triggers, whose successor each example chooses anew.

One example with `length=8, triggers=1`, the trigger being `e` and its output in this example `q`:

    position   0   1   2   3   4   5   6   7
    reads      t   h   e   q   u   i   r   e
    writes     h   e   q   u   i   r   e   q
                       first           recalled

Letters are numbered by how frequent they are, so the triggers, the most frequent ones, are 0 … triggers-1. What follows
any other letter is in the text's pairs of letters, which weights can learn; what follows a trigger is in the example
alone, from its second occurrence on. `loss` is over all positions, `accuracy` over the recalled ones: knowing the pairs
and nothing of the example is the plateau. What ends it is an induction head.

Source: Bietti et al. 2023, Birth of a Transformer: A Memory Viewpoint, arXiv 2306.00802. Theirs is tiny-Shakespeare,
which has 65 letters; here `text` is reduced to its most frequent ones. That outputs are never triggers is ours: none
leads back to itself at once.
"""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

    Array = npt.NDArray[np.float64]

ROUNDS = 8  # that levels are averaged over; in each, every trigger has every output once


class Bigrams(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        text: `pydoc`, which every Python has; any other is NAME.txt in the folder that EUREKA_DATA names.
        letters: different characters N, the most frequent; all others are taken out of the text.
        triggers: the most frequent letters, whose successor is drawn for each example among the other letters.
        length: letters read.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = (
        "attention_on_previous",
        "attention_on_output",
        "recall_previous",
        "recall_match",
        "recall_output",
    )

    name: Literal["bigrams"] = static("bigrams")
    version: Literal[1] = static(1)
    text: str = static("pydoc", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    letters: int = static(65, ge=3, le=1024)
    triggers: int = static(5, ge=1)
    length: int = static(256, ge=3)

    @model_validator(mode="after")
    def _outputs_remain(self) -> Bigrams:
        if self.triggers > self.letters - 2:
            raise ValueError(f"triggers of at most letters - 2; got {self.triggers} of {self.letters}")
        return self

    def shapes(self) -> Shapes:
        """Every letter read is followed by one."""
        return Shapes(positions=self.length, classes=self.letters, vocabulary=self.letters, answers="position")

    def require_files(self) -> None:
        """The text is there."""
        from workloads.texts import letters_of

        letters_of(self.text, letters=self.letters, folder=os.environ.get("EUREKA_DATA", ""))

    def levels(self) -> Levels:
        """Of the plateau and the floor, as `example_levels` counts them."""
        plateau, floor, guess = example_levels(self.laws, triggers=self.triggers, length=self.length)
        return Levels(
            loss_chance=math.log(self.letters),
            loss_plateau=plateau,
            loss_floor=floor,
            accuracy_chance=1 / self.letters,
            accuracy_plateau=guess,
            accuracy_ceiling=1.0,
        )

    @property
    def laws(self) -> Laws:
        """Chances of letters, and of those that follow them."""
        return _laws(self.text, self.letters, os.environ.get("EUREKA_DATA", ""))

    def world(self, rng: torch.Generator) -> Batch:
        """Running sums of the letters' chances `first (N,)` and, i added in row i, their followers' `next (N·N,)`."""
        import torch

        first, following = (torch.from_numpy(law.cumsum(-1)).to(rng.device) for law in self.laws)
        first[-1], following[:, -1] = 1.0, 1.0
        rows = torch.arange(self.letters, dtype=torch.float64, device=rng.device)
        return {"first": first, "next": (following + rows[:, None]).flatten()}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Letters read `x (S, B, length)`, those that follow `y`, and which answers are `recalled`, the same shape."""
        import torch

        u = torch.rand(self.length + 1, steps, batch, generator=rng, device=rng.device, dtype=torch.float64)
        outputs = torch.randint(
            self.triggers, self.letters, (steps, batch, self.triggers), generator=rng, device=rng.device
        )
        letter = torch.searchsorted(world["first"], u[0], right=True)
        found = [letter]
        for at in range(1, self.length + 1):
            row = letter * self.letters
            usual = torch.searchsorted(world["next"], u[at] + letter, right=True) - row
            led = outputs.gather(2, letter.clamp_max(self.triggers - 1)[..., None])[..., 0]
            letter = torch.where(letter < self.triggers, led, usual)
            found.append(letter)
        words = torch.stack(found, dim=2)
        x = words[..., :-1]
        recalled = torch.zeros_like(x, dtype=torch.bool)
        for trigger in range(self.triggers):
            here = x == trigger
            recalled |= here & (here.cumsum(2) > 1)
        return {"x": x.contiguous(), "y": words[..., 1:].contiguous(), "recalled": recalled}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy over all positions [nats]; accuracy over the recalled ones [fraction]."""
        from workloads.scores import cross_entropy

        right = ((output.argmax(-1) == batch["y"]) & batch["recalled"]).flatten(1).sum(1)
        return {
            "loss": cross_entropy(output, batch["y"]),
            "accuracy": right / batch["recalled"].flatten(1).sum(1).clamp_min(1),
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """What an induction head is made of [fractions]; not a number of models that do not show it.

        attention_on_previous: of all positions' attention but the first's, on the position before; and
        attention_on_output: of the recalled positions' attention, on those behind the trigger's earlier occurrences;
            both of the layer and head that has most.
        recall_previous: places whose strongest partner in the first layer's keys is the place before.
        recall_match: triggers whose strongest partner in the second layer's keys is their own copy.
        recall_output: letters whose strongest answer through the second layer is themselves. Bietti's probes of W_K0,
            W_K1 and W_O1; of the model `memories`.
        """
        import torch

        taken = not_shown(self.MEASURES, batch)
        x, recalled = batch["x"], batch["recalled"]
        if seen.attention:
            back = [maps.diagonal(offset=-1, dim1=-2, dim2=-1).mean((1, 3)) for maps in seen.attention]
            behind = torch.zeros(*x.shape, x.shape[-1], device=x.device)
            behind[..., 1:] = ((x[..., :, None] == x[..., None, :-1]) & recalled[..., None]).float()
            n = recalled.flatten(1).sum(1).clamp_min(1)[:, None]
            on_output = [(maps * behind[:, :, None]).sum((1, 3, 4)) / n for maps in seen.attention]
            taken |= {
                "attention_on_previous": of_the_best_head(back),
                "attention_on_output": of_the_best_head(on_output),
            }
        if "previous" in seen.states:
            places = seen.states["previous"]
            later = torch.full(places.shape[1:], -torch.inf, device=places.device).triu(1)
            previous = (places + later)[:, 1:].argmax(2) == torch.arange(self.length - 1, device=x.device)
            letters = torch.arange(self.letters, device=x.device)
            match = seen.states["match"].argmax(2)[:, : self.triggers] == letters[: self.triggers]
            output = seen.states["output"].argmax(2) == letters
            taken |= {
                "recall_previous": previous.float().mean(1),
                "recall_match": match.float().mean(1),
                "recall_output": output.float().mean(1),
            }
        return taken


if TYPE_CHECKING:
    Laws = tuple[Array, Array]


@functools.lru_cache(maxsize=8)
def _laws(text: str, letters: int, folder: str) -> Laws:
    """Shares of a text's letters `(N,)` and of what follows each `(N, N)`; the text's end is followed by its start."""
    import numpy as np

    from workloads.texts import letters_of

    ids = letters_of(text, letters=letters, folder=folder)
    pairs = np.zeros((letters, letters))
    np.add.at(pairs, (ids, np.roll(ids, -1)), 1.0)
    counts = pairs.sum(1)
    return counts / counts.sum(), pairs / counts[:, None]


def example_levels(laws: Laws, *, triggers: int, length: int) -> tuple[float, float, float]:
    """Loss of the plateau and of the floor [nats], and the plateau's accuracy at recalled positions [fraction].

    The plateau is the best answer to the letter read alone. It knows the text's pairs, and of a trigger how likely each
    output is where the trigger stands: outputs that lead back soon are a little likelier. The floor knows each output
    once it has been seen. Expectations are exact for given outputs; outputs are averaged over ROUNDS in which every
    trigger has each of them once (which with one trigger is exact).

    Checked by: test_bigrams.py::test_levels_are_those_of_all_examples_counted_one_by_one
    """
    import numpy as np

    first, following = laws
    n = len(first)
    rng = np.random.default_rng(0)
    columns = [np.concatenate([rng.permutation(n - triggers) for _ in range(ROUNDS)]) for _ in range(triggers)]
    outputs = triggers + np.stack(columns, axis=1)  # (draws, triggers)
    draws = np.arange(len(outputs))
    # chance of standing at a letter: in [:, 0] whatever was, in [:, 1 + k] where trigger k has not been met before
    chance = np.tile(first, (len(draws), 1 + triggers, 1))
    visits, firsts = np.zeros((len(draws), n)), np.zeros((len(draws), triggers))
    for _ in range(length):
        visits += chance[:, 0]
        for k in range(triggers):
            firsts[:, k] += chance[:, 1 + k, k]
            chance[:, 1 + k, k] = 0.0
        after = chance[..., triggers:] @ following[triggers:]
        for k in range(triggers):
            after[draws, :, outputs[:, k]] += chance[:, :, k]
        chance = after
    entropies = -np.where(following > 0, following * np.log(np.where(following > 0, following, 1.0)), 0.0).sum(1)
    of_text = visits.mean(0)[triggers:] @ entropies[triggers:]
    of_outputs = best = 0.0
    for k in range(triggers):
        met = np.bincount(outputs[:, k], weights=visits[:, k], minlength=n)[triggers:] / len(draws)
        met_again = np.bincount(outputs[:, k], weights=visits[:, k] - firsts[:, k], minlength=n) / len(draws)
        of_outputs -= float((met * np.log(met / met.sum())).sum())
        best += float(met_again.max())
    recalled = (visits[:, :triggers] - firsts).sum(1).mean()
    unseen = firsts.sum(1).mean() * math.log(n - triggers)
    return float(of_text + of_outputs) / length, float(of_text + unseen) / length, best / float(recalled)
