"""The network of a run on embeddings: there is none left to run, as they were computed before."""

from torch import Tensor, nn

from fastadapt.errors import TaskError


class Features(nn.Module):
    """Hand embeddings on as they are.

    Args:
        inputs: numbers of an embedding, d.

    Example:
        >>> import torch
        >>> Features(2)(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 2.]])
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings `[n, d]`.

        Raises:
            TaskError: for another shape.
        """
        if x.dim() != 2 or x.shape[1] != self.inputs:
            raise TaskError(f"embeddings of {self.inputs} numbers are wanted, [n, {self.inputs}], got {list(x.shape)}")
        return x
