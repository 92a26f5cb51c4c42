"""One run as a competent user writes it: a pre-LN encoder from torch's own layers, fused AdamW, eager mode."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.spec import RunSpec
from workloads.streams import BLOCK_STEPS, generator

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self, spec: RunSpec):
        super().__init__()
        model = spec.model
        width, hidden = model.width, round(model.mlp_ratio * model.width)
        self.heads = model.heads
        self.scale = 1.0 / (model.attention.temperature * math.sqrt(width // self.heads))
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=model.norm_eps) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, *, queries: int | None = None) -> Tensor:  # (B, T, D)
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q[:, :, :queries], k, v, scale=self.scale)
        x = x[:, :queries] + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """`read_out_alone` spares the last block the positions that nothing reads, as the engine does."""

    def __init__(self, spec: RunSpec, *, read_out_alone: bool):
        super().__init__()
        shapes, model = spec.task.shapes(), spec.model
        self.last_queries = 1 if read_out_alone else None
        self.embed = nn.Linear(shapes.features, model.width)
        self.read_out = nn.Parameter(model.init_std * torch.randn(1, 1, model.width))
        self.positions = nn.Parameter(model.init_std * torch.randn(shapes.positions + 1, model.width))
        self.blocks = nn.ModuleList(Block(spec) for _ in range(model.layers))
        self.norm = nn.LayerNorm(model.width, eps=model.norm_eps)
        self.head = nn.Linear(model.width, shapes.classes)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.read_out.expand(len(x), -1, -1), self.embed(x)], dim=1) + self.positions
        *early, last = self.blocks
        for block in early:
            h = block(h)
        return self.head(self.norm(last(h, queries=self.last_queries)[:, 0]))


def batches(spec: RunSpec) -> Iterator[tuple[Tensor, Tensor]]:
    """The run's data, drawn a block of steps at once by the very code that the engine calls."""
    world = spec.task.world(generator(spec.seed.data, "world", device=CPU))
    block = 0
    while True:
        rng = generator(spec.seed.data, "batches", block, device=CPU)
        drawn = spec.task.sample(world, rng, steps=BLOCK_STEPS, batch=spec.budget.batch)
        yield from zip(drawn["x"], drawn["y"], strict=True)
        block += 1


class PlainRun:
    """Model, optimiser, schedule and data of one run; records loss and accuracy at every step."""

    def __init__(self, spec: RunSpec, *, read_out_alone: bool = False):
        torch.manual_seed(spec.seed.init)
        optim = spec.optim
        self.model = Encoder(spec, read_out_alone=read_out_alone)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=optim.lr,
            betas=(optim.beta1, optim.beta2),
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            fused=True,
        )
        factor = optim.schedule.factor
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: factor(step=step, budget_steps=spec.budget.steps)
        )
        self.batches = batches(spec)
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    def step(self) -> None:
        x, y = next(self.batches)
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.losses.append(loss.item())
        self.accuracies.append((logits.argmax(1) == y).float().mean().item())
