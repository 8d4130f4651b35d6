r"""A model of the step time of W processes, and what it says of more processes than there are here.

    T(W) = max over processes of (o + c n)  +  [ 2 (W-1) a + 2 (W-1)/W (bytes) / b  +  2 ceil(log2 W) a + (W-1) g ] / K

with n tasks of a process, c the seconds of a task, o those of a step beside its tasks, a the latency of a message and b
the bytes a second of a link (both of a ring all-reduce), g what gathering one process's losses takes the others, and K
local steps. Steps of processes differ by what is measured as their spread, so the slowest of W is waited for.
"""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Hold what one process does in a step.

    Args:
        overhead: seconds beside the tasks, o.
        task: seconds of a task, c.
        sent: bytes of the gradient.
        jitter: steps' times over their median, as measured; the slowest of as many draws as processes is waited for.
    """

    overhead: float
    task: float
    sent: int
    jitter: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Network:
    """Hold what joins processes.

    Args:
        latency: seconds of a message, a.
        rate: bytes a second, b.
        gather: seconds for each other process when losses are gathered, g.
    """

    latency: float
    rate: float
    gather: float


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the intercept, at least 0, and the slope of the least-squares line, each point weighted by 1/y^2."""
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    x0 = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    y0 = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    over = sum(w * (x - x0) * (y - y0) for w, (x, y) in zip(weights, points, strict=True))
    slope = over / sum(w * (x - x0) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    if y0 - slope * x0 < 0:
        slope = sum(w * x * y for w, (x, y) in zip(weights, points, strict=True)) / sum(
            w * x * x for w, (x, _) in zip(weights, points, strict=True)
        )
        return 0.0, slope
    return y0 - slope * x0, slope


def parts(
    work: Work, network: Network, processes: int, tasks: int, local: int = 1, draws: int = 200
) -> dict[str, float]:
    """Return the seconds of a step by what they are spent on.

    Args:
        work: of a process.
        network: between them.
        processes: W.
        tasks: of a step by all.
        local: local steps K.
        draws: how many steps are simulated.
    """
    own = math.ceil(tasks / processes)
    alone = work.overhead + work.task * own
    rng = random.Random(0)
    # the sum over a round of local steps is what the slowest is slow in
    slowest = [
        max(sum(rng.choice(work.jitter) for _ in range(local)) / local for _ in range(processes)) for _ in range(draws)
    ]
    waited = alone * max(0.0, sum(slowest) / draws - 1.0)
    ring = 2 * (processes - 1)
    many = processes > 1
    return {
        "tasks": work.task * own,
        "overhead": work.overhead,
        "waiting for the slowest": waited if many else 0.0,
        "gradient": (ring * network.latency + ring / processes * work.sent / network.rate) / local,
        "losses and signals": (2 * math.ceil(math.log2(processes)) * network.latency + (processes - 1) * network.gather)
        / local,
    }


def seconds(work: Work, network: Network, processes: int, tasks: int, local: int = 1) -> float:
    """Return the seconds of a step.

    Example:
        >>> round(seconds(Work(0.0, 0.1, 0), Network(0.0, 1e9, 0.0), 4, 32), 3)
        0.8
    """
    return sum(parts(work, network, processes, tasks, local).values())
