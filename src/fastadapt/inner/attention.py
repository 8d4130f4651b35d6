r"""Attention in chunks of heads, each computed again for its derivatives, so that few n x n matrices live at once.

    softmax(q k^T / sqrt(d) + mask) v            for heads a .. b, with a, b such that their matrices are small

Heads don't depend on each other, so nothing is approximated. Torch's fused kernels keep no such matrix either, and have
no second derivative.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from fastadapt.inner.recomputed import Recomputable

AT_ONCE = 1 << 20
"""Entries of the n x n matrices of a chunk: 4 MB in float32."""


class Attention(TorchFunctionMode):
    """Replace `F.scaled_dot_product_attention` where there is more than one chunk and nothing is drawn."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _covers(*args, **kwargs):
            return attention(*args, **kwargs)
        return func(*args, **kwargs)


def _covers(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    heads = q.dim() >= 3 and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    return heads and not dropout_p and not enable_gqa and _chunk(q, k) < q.shape[-3]


def _chunk(q: Tensor, k: Tensor) -> int:
    """Return how many heads are computed at once."""
    one = q.shape[:-3].numel() * q.shape[-2] * k.shape[-2]
    return max(1, AT_ONCE // max(one, 1))


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the attention of `q: [..., heads, n, d]` over `k` and `v: [..., heads, m, d]`, see `torch`'s.

    Example:
        >>> q = torch.randn(2, 3, 4, 5)
        >>> torch.testing.assert_close(attention(q, q, q), F.scaled_dot_product_attention(q, q, q))
    """
    heads = q.shape[-3]
    wide = attn_mask is not None and attn_mask.dim() >= 3 and attn_mask.shape[-3] == heads and heads > 1

    def plain(tensors: Sequence[Tensor]) -> list[Tensor]:
        mask = tensors[3] if len(tensors) > 3 else None
        with sdpa_kernel(SDPBackend.MATH):
            query, key, value = tensors[:3]
            return [F.scaled_dot_product_attention(query, key, value, mask, 0.0, is_causal, scale=scale)]

    some, parts = _chunk(q, k), []
    for a in range(0, heads, some):
        tensors = [each[..., a : a + some, :, :] for each in (q, k, v)]
        if attn_mask is not None:
            tensors.append(attn_mask[..., a : a + some, :, :] if wide else attn_mask)
        parts += Recomputable(plain, "attention")(tensors)
    return torch.cat(parts, -3)
