"""JAX and optax, one compiled program for each outer step.

    python by_jax.py map|vmap patches|conv

"vmap" takes all tasks at once, "map" one after another (a scan that adds up the gradients); a convolution is nine
shifted copies times a matrix, or XLA's own.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import jax_nets
import numpy as np
import optax
from answering import Arrays, serve
from jax import Array, lax

Params = dict[str, Array]


class Jax:
    """Compute the meta-gradient and the outer Adam in one jitted function."""

    def __init__(self, over_tasks: str, form: str) -> None:
        self.over_tasks, self.form = over_tasks, form

    def versions(self) -> dict[str, str]:
        """Return the versions of JAX and optax."""
        return {"jax": jax.__version__, "optax": optax.__version__}

    def load(self, spec: dict[str, Any], arrays: Arrays) -> None:
        """Take weights and tasks, and define the step."""
        if spec["net"] == "conv4":
            self.convert, self.apply = jax_nets.conv4(spec["net_settings"], self.form)
        elif spec["net"] == "mlp":
            self.convert, self.apply = jax_nets.mlp(spec["net_settings"])
        else:
            raise NotImplementedError(f"the JAX worker has no {spec['net']}")
        self.spec = spec
        prefix = "weight/"
        self.params = {n.removeprefix(prefix): jnp.asarray(a) for n, a in arrays.items() if n.startswith(prefix)}
        self.tasks = tuple(self._array(arrays[n]) for n in ("support_x", "support_y", "query_x", "query_y"))
        self.optimizer = optax.adam(spec["outer_lr"])
        self.state = self.optimizer.init(self.params)
        self.step = jax.jit(self._step)

    @staticmethod
    def _array(a: np.ndarray) -> Array:
        return jnp.asarray(a.transpose(0, 1, 3, 4, 2) if a.ndim == 5 else a)

    def _loss(self, params: Params, x: Array, y: Array) -> Array:
        output = self.apply(params, x)
        if self.spec["loss"] == "cross_entropy":
            return optax.softmax_cross_entropy_with_integer_labels(output, y).mean()
        return jnp.square(output - y).mean()

    def _query_loss(self, theta: Params, task: tuple[Array, ...]) -> Array:
        x, y, xq, yq = task
        for _ in range(self.spec["steps"]):
            grads = jax.grad(self._loss)(theta, x, y)
            if self.spec["first_order"]:
                grads = lax.stop_gradient(grads)
            theta = jax.tree.map(lambda p, g: p - self.spec["lr"] * g, theta, grads)
        return self._loss(theta, xq, yq)

    def _displacement(self, phi: Params, task: tuple[Array, ...]) -> Params:
        rule = optax.adam(self.spec["lr"], b1=0.0, b2=0.999)
        params, state = phi, rule.init(phi)
        for _ in range(self.spec["steps"]):
            updates, state = rule.update(jax.grad(self._loss)(params, task[0], task[1]), state)
            params = optax.apply_updates(params, updates)
        return jax.tree.map(jnp.subtract, phi, params)

    def _step(self, params: Params, state: Any, tasks: tuple[Array, ...]) -> tuple[Params, Any, Params]:
        converted, back = jax.vjp(self.convert, params)
        of_task = self._displacement if self.spec["method"] == "reptile" else jax.grad(self._query_loss)
        count = len(tasks[0])
        if self.over_tasks == "vmap":
            every = jax.vmap(of_task, in_axes=(None, 0))(converted, tasks)
            total = jax.tree.map(lambda g: g.sum(0), every)
        else:
            zero = jax.tree.map(jnp.zeros_like, converted)
            add = lambda total, task: (jax.tree.map(jnp.add, total, of_task(converted, task)), None)  # noqa: E731
            total, _ = lax.scan(add, zero, tasks)
        (gradient,) = back(jax.tree.map(lambda g: g / count, total))
        updates, state = self.optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, gradient

    def gradient(self, task: int | None) -> Arrays:
        """Return the meta-gradient by the parameters' names; with a `task`, of copies of that one only."""
        tasks = self.tasks if task is None else tuple(jnp.broadcast_to(a[task], a.shape) for a in self.tasks)
        return jax.tree.map(np.asarray, self.step(self.params, self.state, tasks)[2])

    def steps(self, count: int) -> None:
        """Make `count` outer steps."""
        params, state = self.params, self.state
        for _ in range(count):
            params, state, _ = self.step(params, state, self.tasks)
        jax.block_until_ready(params)
        self.params, self.state = params, state


if __name__ == "__main__":
    serve(Jax(sys.argv[1], sys.argv[2]))
