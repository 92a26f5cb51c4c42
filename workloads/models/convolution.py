"""The layers of the `resnet` model: K runs' pictures lie as `(K, C, B, H, W)`, so that a channel's values are one row.

A convolution is one matrix product a run over unfolded pictures: grouped convolutions take other routes for one run
than for several, and give other bits.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.layers import Layer
from workloads.models.perceptron import FanIn
from workloads.models.resnet import BLOCKS
from workloads.rows import NO_DECAY
from workloads.seen import Seen
from workloads.streams import generator
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.resnet import ResNet


class Convolution(Layer):
    """Square kernels, no bias; first values are normal with variance 2 / (outputs · kernel²)."""

    kernel: nn.Parameter

    def __init__(self, c_in: int, c_out: int, *, size: int, stride: int = 1):
        super().__init__()
        self.size, self.stride = size, stride
        self.declare("kernel", c_out, c_in, size, size, init="own")

    def forward(self, x: Tensor) -> Tensor:
        """`(K, C, B, H, W)` to `(K, C', B, H', W')`, zeros around."""
        k, c, b, height, width = x.shape
        pad, area = self.size // 2, self.size**2
        shown = F.unfold(x.reshape(-1, 1, height, width), self.size, padding=pad, stride=self.stride)
        columns = shown.view(k, c, b, area, -1).transpose(2, 3).reshape(k, c * area, -1)  # (K, C·area, B·places)
        out = torch.bmm(self.kernel.flatten(2), columns)
        return out.view(k, -1, b, (height - 1) // self.stride + 1, (width - 1) // self.stride + 1)

    def own_values(self, seed: int, name: str) -> Tensor:
        """First values in the run with this initialisation seed; drawn on the CPU.

        Source: He et al. 2015, arXiv 1502.01852, of the fan out.
        """
        c_out = self.kernel.shape[-4]
        shape = self.kernel.shape[-4:]
        rng = generator(seed, f"init/{name}", device=torch.device("cpu"))
        return torch.randn(shape, generator=rng) * (2.0 / (c_out * self.size**2)) ** 0.5


class BatchNorm(Layer):
    """Normalises each channel over the batch at hand, then scales and shifts it.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
    """

    gain: nn.Parameter
    shift: nn.Parameter

    def __init__(self, channels: int):
        super().__init__()
        self.declare("gain", channels, init="ones", group=NO_DECAY)
        self.declare("shift", channels, init="zeros", group=NO_DECAY)

    def forward(self, x: Tensor) -> Tensor:
        """`(K, C, B, H, W)` to the same."""
        rows = x.flatten(2)
        normed = F.layer_norm(rows, rows.shape[2:], eps=1e-5)  # over a row, which is a run's channel
        return torch.addcmul(self.shift[..., None], normed, self.gain[..., None]).view(x.shape)


class ResidualBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv x))))); x is brought to the branch's shape where it has another."""

    def __init__(self, c_in: int, c_out: int, *, stride: int):
        super().__init__()
        self.first, self.norm1 = Convolution(c_in, c_out, size=3, stride=stride), BatchNorm(c_out)
        self.second, self.norm2 = Convolution(c_out, c_out, size=3), BatchNorm(c_out)
        is_same = c_in == c_out and stride == 1
        self.beside = None if is_same else Convolution(c_in, c_out, size=1, stride=stride)
        self.norm3 = None if is_same else BatchNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """`(K, C, B, H, W)` to `(K, C', B, H', W')`."""
        branch = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        if self.beside is not None and self.norm3 is not None:
            x = self.norm3(self.beside(x))
        return F.relu(x + branch)


class Residual(nn.Module):
    """Pixels in, class logits out."""

    def __init__(self, spec: ResNet, shapes: Shapes):
        super().__init__()
        assert shapes.picture is not None
        assert shapes.features is not None
        self.picture = shapes.picture
        self.stem, self.norm = Convolution(shapes.features, spec.width, size=7, stride=2), BatchNorm(spec.width)
        stages = [spec.width * 2**stage for stage, n in enumerate(BLOCKS[spec.depth]) for _ in range(n)]
        steps = itertools.pairwise([spec.width, *stages])
        self.blocks = nn.ModuleList(ResidualBlock(a, b, stride=1 if a == b else 2) for a, b in steps)
        self.head = FanIn(stages[-1], shapes.classes, scale=1.0)
        self.head.groups["bias"] = NO_DECAY

    def forward(self, x: Tensor, *, seen: Seen | None = None) -> Tensor:
        """Logits `(K, B, classes)` to pixels in reading order `(K, B, height·width, C)`."""
        if seen is not None:
            seen.again = self.__call__
        h = x.permute(0, 3, 1, 2).unflatten(3, self.picture).contiguous()
        h = F.relu(self.norm(self.stem(h)))
        pooled = F.max_pool2d(h.flatten(0, 2)[:, None], 3, stride=2, padding=1)
        h = pooled.view(*h.shape[:3], *pooled.shape[2:])
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean((3, 4)).transpose(1, 2).contiguous())
