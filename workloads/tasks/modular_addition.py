"""`modular_addition`: learn a + b from part of the table, and wait for the rest to follow.

One example with `modulus=113`: words 57 and 80 are read, the answer is (57 + 80) mod 113 = 24.

A fixed share of all modulus² pairs is for training, the rest is held out. Training pairs are soon known by heart; much
later, with weight decay, the held-out ones follow at once (grokking). So here `loss` is that of the training pairs,
which is minimised, while `accuracy` is that of the held-out ones: detectors that read accuracy see the event, those
that read loss see memorisation.

The first rows of a batch are training pairs, `held_out_share` of it are held out. With `budget.batch` modulus² and
`held_out_share` 1 - train_fraction every step sees the whole table, and trains on the full training set.

A network that has the rule lives on a few *key frequencies*: its answers are waves of a + b. Two losses follow the rule
beneath the curves: *restricted*, the loss of answers that keep these waves alone, and *excluded*, the training loss of
answers without them. A run does not know which frequencies it will end with, so by default they are the strongest of
the moment. The paper takes those of the trained network: read `key_frequency_1` … at a run's end and train it again
with `key_frequencies: "3 9 14"`; nothing else changes.

Source: Nanda et al. 2023, Progress measures for grokking, arXiv 2301.05217; Power et al. 2022, arXiv 2201.02177.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

KEY_FREQUENCIES = 5  # what the paper's networks settle on


class ModularAddition(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        modulus: numbers are 0 … modulus-1.
        train_fraction: of all pairs, which may be trained on; which, the data seed says.
        held_out_share: of every batch, rows that are held-out pairs.
        key_frequencies: those that restricted and excluded loss are about, such as "3 9 14"; empty is the strongest
            five of the moment.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "held_out_loss", "train_accuracy")

    name: Literal["modular_addition"] = static("modular_addition")
    version: Literal[1] = static(1)
    modulus: int = static(113, ge=2, le=1024)
    train_fraction: float = static(0.3, gt=0.0, lt=1.0)
    held_out_share: float = static(0.7, gt=0.0, lt=1.0)
    key_frequencies: str = static("", later=True, pattern=r"^([0-9]+( [0-9]+)*)?$")

    @model_validator(mode="after")
    def _key_frequencies_exist(self) -> ModularAddition:
        if any(not 1 <= int(word) <= self.frequencies for word in self.key_frequencies.split()):
            raise ValueError(f"key_frequencies of 1 to {self.frequencies}; got '{self.key_frequencies}'")
        return self

    @property
    def frequencies(self) -> int:
        """Waves that fit into the numbers, the constant left out."""
        return self.modulus // 2

    @property
    def MEASURES(self) -> tuple[str, ...]:
        """Shares and losses of key frequencies, and which frequencies of the answers are strongest."""
        strongest = tuple(f"key_frequency_{i + 1}" for i in range(min(KEY_FREQUENCIES, self.frequencies)))
        return ("key_frequency_share", "restricted_loss", "excluded_loss", *strongest)

    @property
    def train_pairs(self) -> int:
        """Pairs that may be trained on."""
        return round(self.train_fraction * self.modulus**2)

    def train_rows(self, batch: int) -> int:
        """Rows of a batch that are training pairs: at least one, and at least one is not."""
        return min(max(1, round((1.0 - self.held_out_share) * batch)), max(1, batch - 1))

    def shapes(self) -> Shapes:
        """Two numbers; a model's read-out token takes the place of the equals sign."""
        return Shapes(positions=2, classes=self.modulus, vocabulary=self.modulus)

    def levels(self) -> Levels:
        """Exact for the training loss and for both accuracies: what is known by heart says nothing of the rest."""
        return Levels(
            loss_chance=math.log(self.modulus),
            loss_plateau=math.log(self.modulus),
            loss_floor=0.0,
            accuracy_chance=1 / self.modulus,
            accuracy_plateau=1 / self.modulus,
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """All pairs, a·modulus + b, in the order `pairs (modulus²,)`: training pairs first."""
        import torch

        return {"pairs": torch.randperm(self.modulus**2, generator=rng, device=rng.device)}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Pairs `x (S, B, 2)` and their sums `y (S, B)`."""
        import torch

        n = self.train_rows(batch)
        trained, held_out = world["pairs"][: self.train_pairs], world["pairs"][self.train_pairs :]
        parts = [_rows(trained, rng, steps, n), _rows(held_out, rng, steps, batch - n)]
        pairs = torch.cat(parts, dim=1)
        a, b = pairs // self.modulus, pairs % self.modulus
        return {"x": torch.stack([a, b], dim=2), "y": (a + b) % self.modulus}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Loss of training pairs [nats], accuracy of held-out ones [fraction], and the two the other way round."""
        from workloads.scores import accuracy, cross_entropy

        y = batch["y"]
        n = self.train_rows(y.shape[1])
        return {
            "loss": cross_entropy(output[:, :n], y[:, :n]),
            "accuracy": accuracy(output[:, n:], y[:, n:]),
            "held_out_loss": cross_entropy(output[:, n:].detach(), y[:, n:]),
            "train_accuracy": accuracy(output[:, :n], y[:, :n]),
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """What lives on waves; not a number of models that show no table of words, or answer nothing else.

        key_frequency_share: of the number table's power, the strongest frequencies' [fraction].
        restricted_loss: over all pairs, of answers cut down to a constant and the keys' waves of a + b [nats].
        excluded_loss: over the batch's training pairs, of answers without those waves [nats].
        key_frequency_1 …: frequencies whose waves of a + b are strongest in the answers, strongest first.

        Source: Nanda et al. 2023, section 5.
        Checked by: test_modular_addition.py::test_restricted_and_excluded_loss_equal_those_of_the_transformed_table
        """
        taken = not_shown(self.MEASURES, batch)
        if (table := seen.states.get("words")) is not None:
            power = self._power(self._waves(table) @ table)
            taken["key_frequency_share"] = power.topk(self._n_keys, dim=1).values.sum(1) / power.sum(1)
        return taken if seen.again is None else taken | self._of_answers(seen, batch)

    def _of_answers(self, seen: Seen, batch: Batch) -> Batch:
        """The measures that need the answers to every pair."""
        import torch

        from workloads.scores import cross_entropy

        assert seen.again is not None
        k, p, device = len(batch["x"]), self.modulus, batch["x"].device
        a, sums = torch.arange(p, device=device)[None], torch.arange(p, device=device)[:, None]
        pairs = torch.stack([a.expand(p, p), (sums - a) % p], dim=-1)  # (sums, a, 2)
        logits = seen.again(pairs.view(1, p * p, 2).expand(k, -1, -1)).view(k, p, p, p)  # (K, sums, a, classes)
        by_sum = logits.mean(2)  # other waves of a and b leave nothing here
        waves = self._waves(logits)
        parts = waves @ by_sum  # (K, 2F, classes)
        power = self._power(parts)
        strongest = power.topk(self._n_keys, dim=1).indices
        keys = strongest
        if self.key_frequencies:
            keys = torch.tensor([[int(word) - 1 for word in self.key_frequencies.split()]], device=device).expand(k, -1)
        kept = torch.zeros_like(power).scatter_(1, keys, 1.0).repeat(1, 2)[..., None]
        of_keys = waves.mT @ (parts * kept)  # (K, sums, classes)
        n = self.train_rows(batch["y"].shape[1])
        y = batch["y"][:, :n]
        rows = torch.arange(k, device=device)[:, None]
        without = logits[rows, y, batch["x"][:, :n, 0]] - of_keys[rows, y]
        numbers = {f"key_frequency_{i + 1}": column.float() for i, column in enumerate((strongest + 1).unbind(1))}
        return numbers | {
            "restricted_loss": cross_entropy(by_sum.mean(1, keepdim=True) + of_keys, sums.T.expand(k, -1)),
            "excluded_loss": cross_entropy(without, y),
        }

    @property
    def _n_keys(self) -> int:
        return min(KEY_FREQUENCIES, self.frequencies)

    def _waves(self, like: torch.Tensor) -> torch.Tensor:
        """Cosines, then sines, of every frequency over the numbers, each of length 1: `(K, 2F, modulus)`."""
        import torch

        angles = torch.arange(self.modulus, dtype=torch.float64) * (2.0 * math.pi / self.modulus)
        turns = angles[None] * torch.arange(1, self.frequencies + 1, dtype=torch.float64)[:, None]
        waves = torch.cat([turns.cos(), turns.sin()])
        lengths = waves.norm(dim=1, keepdim=True)
        waves = torch.where(lengths > 1e-6, waves / lengths, 0.0)  # an even modulus' highest sine is nothing
        return waves.to(like).expand(len(like), -1, -1)

    def _power(self, parts: torch.Tensor) -> torch.Tensor:
        """Squares of cosine and sine parts `(K, 2F, …)`, frequency by frequency `(K, F)`."""
        return parts.square().sum(2).view(len(parts), 2, -1).sum(1)


def _rows(pairs: torch.Tensor, rng: torch.Generator, steps: int, n: int) -> torch.Tensor:
    """So many of the pairs in every step: all of them in order if that is their number, else any."""
    import torch

    if n == len(pairs):
        return pairs.expand(steps, -1)
    return pairs[torch.randint(len(pairs), (steps, n), generator=rng, device=rng.device)]
