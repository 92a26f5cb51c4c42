"""`markov_chain`: every example is a chain of its own; which symbol comes next must be counted in the example.

One example with `symbols=2, length=8`, of a chain that goes from 0 to 1 in 9 of 10 cases and from 1 to either alike:

    position   0   1   2   3   4   5   6   7
    reads      0   1   1   0   1   0   1   1
    writes     1   1   0   1   0   1   1   0

Three answers can be given: any symbol alike (`uniform`); each as often as it stood in the example (`unigram`); each as
often as it followed the symbol at hand (`bigram`), for which a model needs an induction head that counts. Training
visits them in this order, with a plateau at the second. `kl` is read at the last position: how far the model's answer
is from the chain's own law.

>>> task = MarkovChain()
>>> {name: round(level, 2) for name, level in task.kl_levels().items()}
{'uniform': 0.21, 'unigram': 0.09, 'bigram': 0.01}

Source: Edelman et al. 2024, The Evolution of Statistical Induction Heads, arXiv 2402.11004. What they call doubly
stochastic we make by balancing: rows drawn as usual, then rows and columns are scaled in turn until both add up to 1.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

ROUNDS = 50  # of balancing: columns then add up to 1 within 1e-9 in nearly all chains


class MarkovChain(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        symbols: states k of a chain.
        length: symbols read.
        prior: rows of a chain are uniform over all laws (`dirichlet`); or balanced afterwards (`doubly_stochastic`), so
            that all symbols are equally frequent and the unigram answer is worth nothing.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "kl")
    MEASURES: ClassVar[tuple[str, ...]] = ("kl_unigram", "kl_bigram", "attention_on_previous", "attention_on_followers")

    name: Literal["markov_chain"] = static("markov_chain")
    version: Literal[1] = static(1)
    symbols: int = static(2, ge=2, le=16)
    length: int = static(100, ge=3)
    prior: Literal["dirichlet", "doubly_stochastic"] = static("dirichlet")

    def shapes(self) -> Shapes:
        """Every symbol read is followed by one."""
        return Shapes(positions=self.length, classes=self.symbols, vocabulary=self.symbols, answers="position")

    def levels(self) -> Levels:
        """The plateau counts symbols, the floor pairs of them, each with one added; means over all positions.

        Where counting symbols is of no use, the plateau is chance. Fixed-seed Monte Carlo, as in `kl_levels`, which
        are declared too: kl_chance, kl_plateau, kl_floor.
        """
        found = _simulated(self.symbols, self.length, self.prior)
        chance, plateau, floor = (found[name] for name in ("uniform", "unigram", "bigram"))
        kl = {"kl_chance": chance["kl"], "kl_plateau": min(chance["kl"], plateau["kl"]), "kl_floor": floor["kl"]}
        return Levels(
            loss_chance=chance["loss"],
            loss_plateau=min(chance["loss"], plateau["loss"]),
            loss_floor=floor["loss"],
            accuracy_chance=chance["accuracy"],
            accuracy_plateau=max(chance["accuracy"], plateau["accuracy"]),
            accuracy_ceiling=floor["accuracy"],
            others=kl,
        )

    def kl_levels(self) -> dict[str, float]:
        """KL divergence of each answer from the chain's law at the last position [nats].

        Means over chains drawn with a fixed seed; standard error below 1 % of each at 2 to 8 symbols.

        Checked by: test_markov_chain.py::test_kl_levels_are_the_published_ones
        """
        return {name: levels["kl"] for name, levels in _simulated(self.symbols, self.length, self.prior).items()}

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing stays fixed."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Symbols read `x (S, B, T)`, those that follow `y`; the `law (S, B, k)` of what follows the last."""
        import torch

        laws = chains(self.symbols, rng, size=(steps, batch), prior=self.prior)
        ends = laws.cumsum(-1)
        u = torch.rand(self.length + 1, steps, batch, generator=rng, device=rng.device, dtype=torch.float64)
        symbol = (u[0, ..., None] > stationary(laws).cumsum(-1)[..., :-1]).sum(-1)
        found = [symbol]
        for at in range(1, self.length + 1):
            symbol = (u[at, ..., None] > row_of(ends, symbol)[..., :-1]).sum(-1)
            found.append(symbol)
        words = torch.stack(found, dim=2)
        law = row_of(laws, words[..., -2]).float()
        return {"x": words[..., :-1].contiguous(), "y": words[..., 1:].contiguous(), "law": law}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy [nats] and accuracy [fraction] over all positions; KL(law ‖ model) at the last [nats]."""
        from workloads.scores import accuracy, cross_entropy

        return {
            "loss": cross_entropy(output, batch["y"]),
            "accuracy": accuracy(output, batch["y"]),
            "kl": divergence(batch["law"], output[..., -1, :].detach().log_softmax(-1)),
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """What the model has come to.

        kl_unigram, kl_bigram: KL(answer ‖ model) at the last position, of the two answers by counting [nats].
        attention_on_previous: of all positions' attention but the first's, on the position before; and
        attention_on_followers: of the last position's, on those behind the same symbol; both of the layer and head
            that has most [fractions].
        """
        taken = not_shown(self.MEASURES, batch)
        x = batch["x"]
        if seen.again is not None:
            model = seen.again(x)[..., -1, :].log_softmax(-1)
            unigram, bigram = counted(x, symbols=self.symbols)
            taken |= {"kl_unigram": divergence(unigram, model), "kl_bigram": divergence(bigram, model)}
        if seen.attention:
            back = [maps.diagonal(offset=-1, dim1=-2, dim2=-1).mean((1, 3)) for maps in seen.attention]
            behind = (x[..., :-1] == x[..., -1:]).float()[:, :, None]
            on = [(maps[..., -1, 1:] * behind).sum(3).mean(1) for maps in seen.attention]
            taken |= {
                "attention_on_previous": of_the_best_head(back),
                "attention_on_followers": of_the_best_head(on),
            }
        return taken


def chains(symbols: int, rng: torch.Generator, *, size: tuple[int, ...], prior: str) -> torch.Tensor:
    """Laws of what follows each symbol `(*size, k, k)`, double: uniform over all laws, or balanced."""
    import torch

    drawn = torch.empty(*size, symbols, symbols, dtype=torch.float64, device=rng.device).exponential_(generator=rng)
    laws = drawn / drawn.sum(-1, keepdim=True)
    if prior == "doubly_stochastic":
        for _ in range(ROUNDS):
            laws = laws / laws.sum(-2, keepdim=True)
            laws = laws / laws.sum(-1, keepdim=True)
    return laws


def stationary(laws: torch.Tensor) -> torch.Tensor:
    """The law that each chain `(…, k, k)` settles to `(…, k)`: p with p (1 - laws + ones) = ones."""
    import torch

    k = laws.shape[-1]
    ones = torch.ones(k, dtype=laws.dtype, device=laws.device)
    there = torch.eye(k, dtype=laws.dtype, device=laws.device) - laws + 1.0
    return torch.linalg.solve(there.mT, ones.expand(*laws.shape[:-1])[..., None])[..., 0]


def row_of(laws: torch.Tensor, symbol: torch.Tensor) -> torch.Tensor:
    """The row `(…, k)` of each chain `(…, k, k)` that belongs to a symbol `(…)`."""
    return laws.gather(-2, symbol[..., None, None].expand(*symbol.shape, 1, laws.shape[-1]))[..., 0, :]


def counted(x: torch.Tensor, *, symbols: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What symbols `(…, T)` tell of the next one, by counting: each symbol's share, and its share behind the last.

    To every count one is added: then the second is the best answer to rows that are uniform over all laws (but for what
    the first symbol tells of them, since it stands where the chain settles).
    """
    import torch.nn.functional as F

    hot = F.one_hot(x, symbols).double()
    after = hot[..., 1:, :] * (x[..., :-1] == x[..., -1:])[..., None]
    shares = [(counts + 1.0) / (counts.sum(-1, keepdim=True) + symbols) for counts in (hot.sum(-2), after.sum(-2))]
    return shares[0].float(), shares[1].float()


def divergence(law: torch.Tensor, log_answer: torch.Tensor) -> torch.Tensor:
    """KL(law ‖ answer), the mean over examples [nats]: laws `(K, B, k)`, logarithms of answers the same, to `(K,)`."""
    import torch

    return (-torch.special.entr(law) - law * log_answer).sum(-1).mean(1)


@functools.lru_cache(maxsize=32)
def _simulated(symbols: int, length: int, prior: str) -> dict[str, dict[str, float]]:
    """Loss, accuracy (means over positions) and KL at the last position of each answer, over chains of a fixed seed."""
    import torch

    rng = torch.Generator().manual_seed(0)
    n = min(1 << 15, (1 << 22) // symbols**2)
    laws = chains(symbols, rng, size=(n,), prior=prior)
    row, ends = torch.arange(n), laws.cumsum(-1)
    symbol = (torch.rand(n, 1, generator=rng, dtype=torch.float64) > stationary(laws).cumsum(-1)[:, :-1]).sum(-1)
    alone, pairs = torch.zeros(n, symbols, dtype=torch.float64), torch.zeros_like(laws)
    found = {name: {"loss": 0.0, "accuracy": 0.0, "kl": 0.0} for name in ("uniform", "unigram", "bigram")}
    for _ in range(length):
        alone[row, symbol] += 1.0
        law, behind = laws[row, symbol], pairs[row, symbol]
        for name, counts in (("uniform", torch.zeros_like(alone)), ("unigram", alone), ("bigram", behind)):
            answer = (counts + 1.0) / (counts.sum(1, keepdim=True) + symbols)
            loss = -(law * answer.log()).sum(1).mean()
            best = law[row, answer.argmax(1)].mean() if name != "uniform" else torch.tensor(1.0 / symbols)
            found[name]["loss"] += loss.item() / length
            found[name]["accuracy"] += best.item() / length
            found[name]["kl"] = (loss - torch.special.entr(law).sum(1).mean()).item()
        following = (torch.rand(n, 1, generator=rng, dtype=torch.float64) > ends[row, symbol][:, :-1]).sum(-1)
        pairs[row, symbol, following] += 1.0
        symbol = following
    return found
