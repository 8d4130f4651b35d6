"""This library, through its public learners; whether it compiles is said on the command line.

Extra settings of the learner come with the workload; `route` may be a word or the settings of an `Execution`.
"""

import sys

from answering import serve
from on_torch import OnTorch
from torch import Tensor

import fastadapt as fa
from fastadapt.training.captured import captured_where_it_can_be
from fastadapt.training.outer_step import outer_step


class Fastadapt(OnTorch):
    """Compute the meta-gradient with `learner(tasks).loss.backward()`."""

    def versions(self) -> dict[str, str]:
        """Return the versions of fastadapt and torch."""
        return {"fastadapt": fa.__version__, **super().versions()}

    def use(self, arrays: list[Tensor]) -> None:
        """Take the tasks as one stacked meta-batch."""
        x, y, xq, yq = arrays
        self.batch = fa.Tasks((x, y), (xq, yq))

    def prepare(self) -> None:
        """Build the learner."""
        loss = fa.CrossEntropy() if self.spec["loss"] == "cross_entropy" else fa.mse
        extra = dict(self.spec["learner"])
        route = extra.pop("route", {})
        settings = {"route": route} if isinstance(route, str) else route
        extra["route"] = fa.Execution(**{"compile": sys.argv[1], **settings})
        if self.reptile:
            rule = fa.Adam(self.lr, beta1=0.0)
            self.learner = fa.Reptile(self.net, loss, rule=rule, steps=self.inner_steps, batch=None, **extra)
        else:
            kind = "first_order" if self.first_order else "exact"
            rule = fa.SGD(self.lr)
            self.learner = fa.MAML(self.net, loss, rule=rule, steps=self.inner_steps, meta_gradient=kind, **extra)

        self.training = fa.Training(lr=self.spec["outer_lr"])
        self.take = captured_where_it_can_be(outer_step, self.optimizer)

    def meta_gradient(self) -> None:
        """Add the meta-gradient of all tasks to `.grad`."""
        self.learner(self.batch).loss.backward()

    def steps(self, count: int) -> None:
        """Make `count` outer steps, as a training takes them."""
        for _ in range(count):
            self.take(self.learner, [self.batch], self.optimizer, self.training)


if __name__ == "__main__":
    serve(Fastadapt())
