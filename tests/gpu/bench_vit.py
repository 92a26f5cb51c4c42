"""The vision transformer at the paper's size: steps a second beside the design that a Python data loader feeds.

    python -m tests.gpu.bench_vit [--write] [--quick] [--curve-minutes 8]

Needs torch, numpy and pydantic alone. `loader` is the authors' design: ten worker processes put mosaics together one
example at a time, a plain module trains on batches of 512 under fp16 autocast. `on the device` is the same module on
batches that are there already: what it would do if data cost nothing. The engine composes pixels in its step.
`--curve-minutes` then trains for so long and sets the loss beside the published one (Hoffmann et al. 2024, README
figure). MNIST and Fashion-MNIST are taken where EUREKA_DATA has them; else scikit-learn's digits, resized, stand in for
both, which is said in the results: their levels are the same, their curve need not be.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.timing import keep, machine, table
from tests.gpu.bench_cuda import attempt, cohort_work, speed, step_work, wait
from workloads.cohort import Cohort
from workloads.images import images_of
from workloads.process import settle
from workloads.rows import Layout
from workloads.spec import RunSpec, resolve

BATCH, WORKERS, EPOCH = 512, 10, 117
PUBLISHED = {1_000: "1.61–1.67", 5_000: "1.33", 10_000: "1.27", 20_000: "1.18–1.20", 30_000: "1.13–1.16"}
PRECISIONS = ("fp32", "tf32", "bf16")


def pictures() -> tuple[str, str]:
    """Sets of indicators and targets that are here."""
    folder = Path(os.environ.get("EUREKA_DATA", ""))
    found = all((folder / name / "train-images-idx3-ubyte.gz").exists() for name in ("mnist", "fashion_mnist"))
    return ("mnist", "fashion_mnist") if found else ("digits", "digits")


def vit_run(seed: int = 0, *, is_small: bool = False, attention: str = "softmax", **compute: str) -> RunSpec:
    """The paper's run, endless but for its schedule; or one that a CPU can try the script with."""
    indicators, targets = pictures()
    heat = {"start_multiplier": 3.0, "epoch_steps": EPOCH} if attention == "heat" else {}
    model: dict[str, Any] = {"name": "vit", "attention": {"name": attention, **heat}}
    if is_small:
        model |= {"width": 32, "layers": 2, "patch": 28}
    schedule = {"name": "cosine", "warmup_steps": 5 * EPOCH, "warmup_from": 0.002, "end_factor": 0.002,
                "epoch_steps": EPOCH}  # fmt: skip
    return resolve(
        {
            "task": {"name": "mosaic", "cell": 28, "indicators": indicators, "targets": targets},
            "model": model,
            "optim": {"name": "adamw", "lr": 5e-4 if attention == "softmax" else 1e-4, "weight_decay": 0.05,
                      "schedule": schedule},
            "budget": {"steps": 1000 * EPOCH, "batch": 16 if is_small else BATCH},
            "seed": {"init": seed, "data": seed},
            "compute": compute,
        }
    )  # fmt: skip


class PlainBlock(nn.Module):
    """A block of the paper's transformer, from torch's own layers."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class PlainVit(nn.Module):
    """The paper's transformer without stochastic depth; as many weights."""

    def __init__(self, spec: RunSpec):
        super().__init__()
        model, side = spec.model, 2 * spec.task.cell
        self.embed = nn.Conv2d(3, model.width, model.patch, stride=model.patch)
        self.read_out = nn.Parameter(torch.zeros(1, 1, model.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (side // model.patch) ** 2, model.width))
        hidden = round(model.mlp_ratio * model.width)
        self.blocks = nn.Sequential(*(PlainBlock(model.width, model.heads, hidden) for _ in range(model.layers)))
        self.norm, self.head = nn.LayerNorm(model.width, eps=1e-6), nn.Linear(model.width, 10)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, side, side) to (B, 10)
        h = self.embed(images).flatten(2).mT
        h = torch.cat([self.read_out.expand(len(h), -1, -1), h], dim=1) + self.positions
        return self.head(self.norm(self.blocks(h)[:, 0]))


class OneByOne(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Mosaics as a data loader asks for them: one at a time, drawn anew at each access."""

    def __init__(self, spec: RunSpec):
        shown, targets = images_of(spec.task.indicators, "train"), images_of(spec.task.targets, "train")
        chosen = np.isin(shown.labels, (1, 2))
        self.cell = spec.task.cell
        self.indicators, self.kinds = self._resized(shown.pixels[chosen]), shown.labels[chosen]
        self.targets, self.labels = self._resized(targets.pixels), targets.labels

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(pixels.copy()).movedim(-1, 1).float()
        return F.interpolate(images, size=(self.cell, self.cell), mode="bilinear").byte().numpy()

    def __len__(self) -> int:
        return 59_904

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        first, second = (int(i) for i in torch.randint(len(self.indicators), (2,)))
        top, bottom = index % len(self.targets), int(torch.randint(len(self.targets), ()))
        reds = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        cells = [
            self._shown(self.indicators[first], reds[torch.randint(2, ())]),
            self._shown(self.targets[top], torch.ones(3)),
            self._shown(self.targets[bottom], torch.ones(3)),
            self._shown(self.indicators[second], reds[torch.randint(2, ())]),
        ]
        image = torch.cat([torch.cat(cells[:2], dim=2), torch.cat(cells[2:], dim=2)], dim=1)
        return image, int(self.labels[top if self.kinds[first] == self.kinds[second] else bottom])

    def _shown(self, pixels: np.ndarray, colour: Tensor) -> Tensor:
        gray = torch.from_numpy(pixels).float() / 255.0
        return gray.expand(3, -1, -1) * (colour + 0.05 * torch.randn(3))[:, None, None]


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


class Loaded:
    """The authors' design: batches from worker processes, an eager module under fp16 autocast."""

    def __init__(self, spec: RunSpec, *, device: torch.device, workers: int):
        self.device = device
        self.model = PlainVit(spec).to(device)
        self.optim = torch.optim.AdamW(self.model.parameters(), lr=5e-4, weight_decay=0.05)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        loader = torch.utils.data.DataLoader(
            OneByOne(spec), batch_size=spec.budget.batch, shuffle=True, drop_last=True, num_workers=workers,
            pin_memory=device.type == "cuda", persistent_workers=workers > 0,
        )  # fmt: skip
        self.batches = endless(loader)
        self.ready = self.fetch()

    def fetch(self) -> tuple[Tensor, Tensor]:
        images, labels = next(self.batches)
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def fetch_only(self) -> None:
        next(self.batches)

    def step(self, batch: tuple[Tensor, Tensor] | None = None) -> None:
        images, labels = batch or self.fetch()
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.device.type == "cuda"):
            loss = F.cross_entropy(self.model(images), labels, label_smoothing=0.1)
        self.optim.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()

    def step_on_what_is_there(self) -> None:
        self.step(self.ready)


def speeds(*, device: torch.device, seconds: float, is_small: bool, widths: tuple[int, ...], workers: int) -> str:
    """Steps a second of the loader's design, and run-steps of the engine."""
    spec = vit_run(is_small=is_small)
    rows = []
    design = Loaded(spec, device=device, workers=workers)
    loaded = speed(device, step_work(design.step, 1), seconds=seconds)
    fetched = speed(device, step_work(design.fetch_only, 1), seconds=seconds)
    module = speed(device, step_work(design.step_on_what_is_there, 1), seconds=seconds)
    for name, precision, found in (
        (f"loader, {workers} workers: data and training", "fp16 autocast", loaded),
        ("loader: data alone", "–", fetched),
        ("the same module, data on the device", "fp16 autocast", module),
    ):
        rows.append([name, precision, "1", f"{found:.2f}", f"{found / loaded:.2f}"])
    del design
    programs = [("eager", "fp32")] if is_small else [*(("eager", each) for each in PRECISIONS), ("compiled", "tf32")]
    for program, precision in programs:
        for width in widths:
            runs = [vit_run(k, is_small=is_small, program=program, precision=precision) for k in range(width)]
            found = attempt(device, lambda runs=runs: cohort_work(runs, device), seconds=seconds)  # type: ignore[misc]
            cells = [f"{found:.2f}", f"{found / loaded:.2f}"] if found else ["does not fit", ""]
            rows.append([f"engine, {program}", precision, str(width), *cells])
    parameters = Layout(spec.model.build(spec.task.shapes())).parameters
    note = f"Batch {spec.budget.batch}, {parameters:,} weights, pictures: {' and '.join(pictures())}. Run-steps/s."
    return f"{note}\n\n{table(['design', 'precision', 'runs', 'run-steps/s', '÷ loader'], rows)}"


def curve(*, device: torch.device, minutes: float, is_small: bool) -> str:
    """The loss of two seeds and of heat treatment after so many minutes, beside what is published."""
    rows = []
    for name, attention, seeds in (("ViT", "softmax", (0, 1)), ("heat treatment", "heat", (0,))):
        precision = "fp32" if is_small else "tf32"
        members = [vit_run(k, is_small=is_small, attention=attention, precision=precision) for k in seeds]
        cohort, until = Cohort(members, width=len(members), device=device), perf_counter() + 60 * minutes / 2
        cohort.advance(seconds=until - perf_counter())
        histories = {run: arrays["history"][:, 0] for run, arrays in cohort.state().items()}
        for member in members:
            loss = histories[member.run_id]
            for at in [*(step for step in PUBLISHED if step < len(loss)), len(loss) - 1]:
                mean = statistics.fmean(loss[max(0, at - EPOCH) : at + 1].tolist())
                rows.append([f"{name}, seed {member.seed.init}", f"{at:,}", f"{mean:.3f}", PUBLISHED.get(at, "")])
    levels = vit_run(is_small=is_small).task.levels()
    note = f"Smoothed loss, mean of {EPOCH} steps; declared: first {levels.loss_chance:.3f}, plateau "
    note += f"{levels.loss_plateau:.3f}, floor {levels.loss_floor:.3f}. Pictures: {' and '.join(pictures())}."
    return f"{note}\n\n{table(['run', 'step', 'loss', 'published (ViT)'], rows)}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda", help="cpu tries the script out, in small")
    options.add_argument("--quick", action="store_true", help="half a second each")
    options.add_argument("--widths", type=lambda text: tuple(map(int, text.split(","))), default=(1, 2, 4))
    options.add_argument("--workers", type=int, default=WORKERS, help="of the data loader")
    options.add_argument("--curve-minutes", type=float, default=0.0)
    options.add_argument("--write", action="store_true", help="keep the tables in RESULTS.md")
    given = options.parse_args()
    device, is_small = torch.device(given.device), given.device == "cpu"
    settle(vit_run(is_small=is_small).compute, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, in small"
    seconds, begun = 0.5 if given.quick else 5.0, f"{name}; {machine()}."
    shown: list[Callable[[], str]] = [
        lambda: speeds(device=device, seconds=seconds, is_small=is_small, widths=given.widths, workers=given.workers)
    ]
    if given.curve_minutes:
        shown.append(lambda: curve(device=device, minutes=given.curve_minutes, is_small=is_small))
    parts = [begun]
    for part in shown:
        parts.append(part())
        print(parts[-1], end="\n\n", flush=True)
        wait(device)
    if given.write:
        keep(f"GPU: the vision transformer, {name}", "\n\n".join(parts))


if __name__ == "__main__":
    main()
