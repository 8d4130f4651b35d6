"""The loop people write by hand: `autograd.grad` in a Python loop over tasks and steps."""

import torch
from answering import serve
from on_torch import OnTorch
from torch.func import functional_call


class Plain(OnTorch):
    """Compute the meta-gradient with plain autograd."""

    def meta_gradient(self) -> None:
        """Add the meta-gradient of all tasks to `.grad`."""
        if self.reptile:
            return self.reptile_by_copies()
        start, buffers = dict(self.net.named_parameters()), dict(self.net.named_buffers())
        for x, y, xq, yq in self.tasks:
            params = start
            for _ in range(self.inner_steps):
                loss = self.loss(functional_call(self.net, {**params, **buffers}, (x,)), y)
                grads = torch.autograd.grad(loss, list(params.values()), create_graph=not self.first_order)
                params = {name: p - self.lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
            query = self.loss(functional_call(self.net, {**params, **buffers}, (xq,)), yq)
            (query / len(self.tasks)).backward()
        return None


if __name__ == "__main__":
    serve(Plain())
