"""Tables for tests: made here, seeded, with numbers, categories, missing values, and tasks that differ."""

import numpy as np

NAMES = ("red", "green", "blue")


def write(path, header, rows, delimiter=","):
    """Write a CSV and return its path."""
    lines = [delimiter.join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def regression(path, tasks=14, size=20, seed=0):
    """Write `y = a_task x + b_task + effect of colour`, with some x missing; return the path."""
    rng, rows = np.random.default_rng(seed), []
    for task in range(tasks):
        slope, shift = rng.normal(2, 0.5), rng.normal(0, 3)
        for _ in range(size):
            x, colour = rng.normal(5, 2), NAMES[rng.integers(3)]
            y = 100 + slope * x + shift + 2 * NAMES.index(colour) + 0.1 * rng.normal()
            rows.append((f"t{task}", "" if rng.random() < 0.05 else f"{x:.3f}", colour, f"{y:.3f}"))
    return write(path, ("group", "x", "colour", "y"), rows)


def classification(path, tasks=12, size=24, seed=0):
    """Write rows of three labels whose border is each task's own; return the path."""
    rng, rows = np.random.default_rng(seed), []
    for task in range(tasks):
        border = rng.normal(0, 0.7)
        for _ in range(size):
            a, b = rng.normal(size=2)
            label = "low" if a < border - 0.4 else "high" if a > border + 0.4 else "middle"
            rows.append((f"t{task}", f"{a:.3f}", f"{b:.3f}", label))
    return write(path, ("group", "a", "b", "label"), rows)


def linear(path, tasks, size, inputs, w0, tau, sigma, seed):
    """Write `y = w' x + noise` with `w ~ N(w0, tau^2 I)` of each task; return the path."""
    rng, rows = np.random.default_rng(seed), []
    for task in range(tasks):
        w = w0 + tau * rng.standard_normal(inputs)
        x = rng.standard_normal((size, inputs))
        y = x @ w + sigma * rng.standard_normal(size)
        rows += [(f"t{task:03d}", *(f"{v:.6f}" for v in row), f"{value:.6f}") for row, value in zip(x, y, strict=True)]
    return write(path, ("group", *(f"x{i}" for i in range(inputs)), "y"), rows)
