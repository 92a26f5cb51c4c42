"""Every model, one a file. A new one is a file beside this and a name in `MODELS`.

The specs alone live at import time; a model's layers (and torch) are imported when it is built.
"""

from __future__ import annotations

from workloads.models.bert import Bert
from workloads.models.declared import DeclaredModel
from workloads.models.memories import Memories
from workloads.models.mlp import Mlp
from workloads.models.module import Module
from workloads.models.resnet import ResNet
from workloads.models.scan_snap import ScanSnapModel
from workloads.models.single_query import SingleQuery
from workloads.models.transformer import Transformer
from workloads.models.vit import Vit

MODELS = (Transformer, Module, ScanSnapModel, Mlp, SingleQuery, Memories, Vit, ResNet, Bert, DeclaredModel)

__all__ = [
    "MODELS",
    "Bert",
    "DeclaredModel",
    "Memories",
    "Mlp",
    "Module",
    "ResNet",
    "ScanSnapModel",
    "SingleQuery",
    "Transformer",
    "Vit",
]
