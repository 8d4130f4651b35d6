"""higher, through `innerloop_ctx`."""

from importlib.metadata import version

import higher
import torch
from answering import serve
from on_torch import OnTorch


class Higher(OnTorch):
    """Compute the meta-gradient with a differentiable optimizer on a patched network."""

    def versions(self) -> dict[str, str]:
        """Return the versions of higher and torch."""
        return {"higher": version("higher"), **super().versions()}

    def prepare(self) -> None:
        """Build the inner optimizer that the library copies for each task."""
        params = self.net.parameters()
        self.inner = (
            torch.optim.Adam(params, lr=self.lr, betas=(0.0, 0.999))
            if self.reptile
            else torch.optim.SGD(params, lr=self.lr)
        )

    def meta_gradient(self) -> None:
        """Add the meta-gradient of all tasks to `.grad`."""
        exact = not (self.first_order or self.reptile)
        for x, y, xq, yq in self.tasks:
            with higher.innerloop_ctx(self.net, self.inner, copy_initial_weights=False, track_higher_grads=exact) as (
                fast,
                optimizer,
            ):
                for _ in range(self.inner_steps):
                    optimizer.step(self.loss(fast(x), y))
                if self.reptile:
                    self.add_displacement(fast.parameters())
                    continue
                query = self.loss(fast(xq), yq) / len(self.tasks)
                if exact:
                    query.backward()
                else:
                    self._add(torch.autograd.grad(query, list(fast.parameters())))

    def _add(self, grads: tuple[torch.Tensor, ...]) -> None:
        for p, g in zip(self.net.parameters(), grads, strict=True):
            p.grad = g if p.grad is None else p.grad + g


if __name__ == "__main__":
    serve(Higher())
