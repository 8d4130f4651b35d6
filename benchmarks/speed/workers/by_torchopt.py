"""TorchOpt: its differentiable optimizer `MetaSGD`, or its functional optimizers.

python by_torchopt.py meta|functional
"""

import sys

import torch
import torchopt
from answering import serve
from on_torch import OnTorch
from torch.func import functional_call


class TorchOpt(OnTorch):
    """Compute the meta-gradient with one of the library's two interfaces."""

    def __init__(self, functional: bool) -> None:
        self.functional = functional

    def versions(self) -> dict[str, str]:
        """Return the versions of TorchOpt and torch."""
        return {"torchopt": torchopt.__version__, **super().versions()}

    def prepare(self) -> None:
        """Build the inner optimizer."""
        if not self.functional and (self.first_order or self.reptile):
            raise NotImplementedError("MetaSGD is exact SGD")
        if not self.functional:
            self.inner = torchopt.MetaSGD(self.net, lr=self.lr)
        elif self.reptile:
            self.rule = torchopt.adam(lr=self.lr, betas=(0.0, 0.999))
        else:
            self.rule = torchopt.sgd(lr=self.lr, moment_requires_grad=not self.first_order)

    def meta_gradient(self) -> None:
        """Add the meta-gradient of all tasks to `.grad`."""
        if self.functional:
            self._functional()
        else:
            self._meta()

    def _meta(self) -> None:
        start = torchopt.extract_state_dict(self.net, by="reference", detach_buffers=True)
        fresh = torchopt.extract_state_dict(self.inner, by="reference")
        for x, y, xq, yq in self.tasks:
            for _ in range(self.inner_steps):
                self.inner.step(self.loss(self.net(x), y))
            (self.loss(self.net(xq), yq) / len(self.tasks)).backward()
            torchopt.recover_state_dict(self.net, start)
            torchopt.recover_state_dict(self.inner, fresh)

    def _functional(self) -> None:
        names = [name for name, _ in self.net.named_parameters()]
        buffers = dict(self.net.named_buffers())

        def output(params: tuple[torch.Tensor, ...], x: torch.Tensor) -> torch.Tensor:
            return functional_call(self.net, {**dict(zip(names, params, strict=True)), **buffers}, (x,))

        exact = not (self.first_order or self.reptile)
        for x, y, xq, yq in self.tasks:
            params = tuple(self.net.parameters())
            if self.reptile:
                params = tuple(p.detach().clone().requires_grad_() for p in params)
            state = self.rule.init(params)
            for _ in range(self.inner_steps):
                grads = torch.autograd.grad(self.loss(output(params, x), y), params, create_graph=exact)
                updates, state = self.rule.update(grads, state, params=params, inplace=self.reptile)
                params = torchopt.apply_updates(params, updates, inplace=self.reptile)
            if self.reptile:
                self.add_displacement(params)
            else:
                (self.loss(output(params, xq), yq) / len(self.tasks)).backward()


if __name__ == "__main__":
    serve(TorchOpt(functional=sys.argv[1] == "functional"))
