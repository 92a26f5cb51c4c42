"""`bert`: words, and a post-norm encoder that answers at every position.

    x = norm(word + position); in every layer x = norm(x + attention(x)), then x = norm(x + mlp(x)); a map reads x

This is Hugging Face's `BertModel` without token types, pooler and dropout. Two things differ: positions are as many as
the task has, and word 0 has a vector that is learned, where theirs takes 0 for padding and keeps its vector at 0.

Source: Devlin et al. 2019, arXiv 1810.04805; settings of Gopalani, Lubana and Hu 2024, arXiv 2410.22244.
Checked by: test_matrix_completion.py::test_bert_is_hugging_faces_with_the_same_weights
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from workloads.attention import AttentionSpec, LinearAttention, Softmax
from workloads.fields import Frozen, per_member, static
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.post_norm import PostNormEncoder
    from workloads.seen import Seen
    from workloads.tasks.task import Batch


class Bert(Frozen):
    """Shape and variant; the defaults are the paper's.

    Attributes:
        width: residual width D.
        layers: blocks.
        heads: attention heads; D is a multiple of it.
        mlp_ratio: hidden width of the MLP, in units of D.
        norm_eps: of the layer norms.
        init_std: standard deviation of the normal that tables and weights start from.
    """

    MEASURES: ClassVar[tuple[str, ...]] = ("attention_entropy",)
    IS_OPEN: ClassVar[bool] = True

    name: Literal["bert"] = static("bert")
    version: Literal[1] = static(1)
    width: int = static(768, ge=1)
    layers: int = static(4, ge=1)
    heads: int = static(8, ge=1)
    mlp_ratio: float = static(4.0, gt=0.0)
    norm_eps: float = static(1e-12, gt=0.0)
    init_std: float = per_member(0.02, gt=0.0)
    attention: AttentionSpec = static(Softmax())

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Bert:
        if self.width % self.heads:
            raise ValueError(f"heads to divide width; got width {self.width}, heads {self.heads}")
        return self

    def build(self, shapes: Shapes) -> PostNormEncoder:
        """Layers for a task's words and positions, parameters still without values.

        Raises:
            UnfitModule: the task's tokens are no words, or it wants one answer an example.
        """
        from workloads.models.post_norm import PostNormEncoder

        return PostNormEncoder(self, shapes)

    def controls(self, *, step: int, budget_steps: int) -> dict[str, Any]:
        """Values that change from step to step: the attention's multiplier, and the favour of linear attention."""
        head_width = self.width // self.heads
        found = {"multiplier": self.attention.multiplier(step=step, budget_steps=budget_steps, head_width=head_width)}
        if isinstance(self.attention, LinearAttention):
            found["favour"] = self.attention.favour_at(step)
        return found

    def measures(self, seen: Seen) -> Batch:
        """Mean entropy of the attention rows, over layers, heads and queries [nats]; of linear ones, their shares."""
        import torch

        from workloads.scores import attention_entropy, shares

        return {"attention_entropy": torch.stack([attention_entropy(shares(maps)) for maps in seen.attention]).mean(0)}
