"""Every task, one a file. A new one is a file beside this and a name in `TASKS`."""

from __future__ import annotations

from workloads.tasks.associative_recall import AssociativeRecall
from workloads.tasks.bigrams import Bigrams
from workloads.tasks.declared import Declared
from workloads.tasks.exemplars import Exemplars
from workloads.tasks.histogram import Histogram
from workloads.tasks.in_context_classification import InContextClassification
from workloads.tasks.in_context_regression import InContextRegression
from workloads.tasks.language import Language
from workloads.tasks.markov_chain import MarkovChain
from workloads.tasks.masked_language import MaskedLanguage
from workloads.tasks.matrix_completion import MatrixCompletion
from workloads.tasks.matrix_sequence import MatrixSequence
from workloads.tasks.modular_addition import ModularAddition
from workloads.tasks.mosaic import Mosaic
from workloads.tasks.parity import Parity
from workloads.tasks.permutation import Permutation
from workloads.tasks.relevant_token import RelevantToken
from workloads.tasks.rewrite import Rewrite
from workloads.tasks.scan_snap import ScanSnap
from workloads.tasks.two_step import TwoStep
from workloads.tasks.window_sum import WindowSum

TASKS = (
    TwoStep,
    WindowSum,
    ScanSnap,
    Rewrite,
    Histogram,
    Permutation,
    RelevantToken,
    Parity,
    ModularAddition,
    AssociativeRecall,
    Exemplars,
    Language,
    Bigrams,
    Mosaic,
    MarkovChain,
    InContextRegression,
    InContextClassification,
    MaskedLanguage,
    MatrixCompletion,
    MatrixSequence,
    Declared,
)

__all__ = [
    "TASKS",
    "AssociativeRecall",
    "Bigrams",
    "Declared",
    "Exemplars",
    "Histogram",
    "InContextClassification",
    "InContextRegression",
    "Language",
    "MarkovChain",
    "MaskedLanguage",
    "MatrixCompletion",
    "MatrixSequence",
    "ModularAddition",
    "Mosaic",
    "Parity",
    "Permutation",
    "RelevantToken",
    "Rewrite",
    "ScanSnap",
    "TwoStep",
    "WindowSum",
]
