"""`bert`: words, and a post-norm encoder that answers at every position.

    x = norm(word + position); in every layer x = norm(x + attention(x)), then x = norm(x + mlp(x)); a map reads x

This is Hugging Face's `BertModel` without token types, pooler and dropout. Two things differ: positions are as many as
the task has, and word 0 has a vector that is learned, where theirs takes 0 for padding and keeps its vector at 0.

Source: Devlin et al. 2019, arXiv 1810.04805; settings of Gopalani, Lubana and Hu 2024, arXiv 2410.22244.
Checked by: test_matrix_completion.py::test_bert_is_hugging_faces_with_the_same_weights
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.attention import AttentionSpec, Softmax
from workloads.fields import per_member, static
from workloads.models.model import Attentive
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.post_norm import PostNormEncoder


class Bert(Attentive):
    """Shape and variant; the defaults are the paper's.

    Attributes:
        width: residual width D.
        layers: blocks.
        heads: attention heads; D is a multiple of it.
        mlp_ratio: hidden width of the MLP, in units of D.
        norm_eps: of the layer norms.
        init_std: standard deviation of the normal that tables and weights start from.
    """

    READS: ClassVar[str] = "words"
    ANSWERS: ClassVar[str] = "position"

    name: Literal["bert"] = static("bert")
    version: Literal[1] = static(1)
    width: int = static(768, ge=1)
    layers: int = static(4, ge=1)
    heads: int = static(8, ge=1)
    mlp_ratio: float = static(4.0, gt=0.0)
    norm_eps: float = static(1e-12, gt=0.0)
    init_std: float = per_member(0.02, gt=0.0)
    attention: AttentionSpec = static(Softmax())

    def build(self, shapes: Shapes) -> PostNormEncoder:
        """Layers for a task's words and positions, parameters still without values."""
        from workloads.models.post_norm import PostNormEncoder

        return PostNormEncoder(self, shapes)
