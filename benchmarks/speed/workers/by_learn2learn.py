"""learn2learn, through `algorithms.MAML`."""

import torch
from answering import serve
from on_torch import OnTorch

# torchvision's wheel is built for CUDA and declares no operators beside a CPU torch; learn2learn only imports it
_torchvision = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _torchvision.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import learn2learn as l2l  # noqa: E402


class Learn2learn(OnTorch):
    """Compute the meta-gradient with `clone()` and `adapt()`."""

    def versions(self) -> dict[str, str]:
        """Return the versions of learn2learn and torch."""
        return {"learn2learn": l2l.__version__, **super().versions()}

    def prepare(self) -> None:
        """Wrap the network."""
        self.maml = l2l.algorithms.MAML(self.net, lr=self.lr, first_order=self.first_order)

    def meta_gradient(self) -> None:
        """Add the meta-gradient of all tasks to `.grad`."""
        if self.reptile:  # the library has no Reptile; its example trains copies
            return self.reptile_by_copies()
        for x, y, xq, yq in self.tasks:
            learner = self.maml.clone()
            for _ in range(self.inner_steps):
                learner.adapt(self.loss(learner(x), y))
            (self.loss(learner(xq), yq) / len(self.tasks)).backward()
        return None


if __name__ == "__main__":
    serve(Learn2learn())
