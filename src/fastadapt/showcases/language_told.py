"""What is to be said of the showcase of languages: the sentence to remember, and thirds by distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastadapt.evaluation import confidence
from fastadapt.showcases.race import Lead, leads
from fastadapt.showcases.reading import COUNTED, lead


@dataclass(frozen=True)
class Best:
    """Hold the best learned start and the best rival, each after the steps that serve it best on validation languages.

    Args:
        own: the row of the start.
        steps: of the start.
        rival: the row of the rival.
        its: steps of the rival.
        gains: of the start over the rival, language by language, in bits per character.
    """

    own: dict[str, Any]
    steps: int
    rival: dict[str, Any]
    its: int
    gains: list[float]


def best_of(record: dict[str, Any], name: str | None = None) -> Best:
    """Return how the best learned start, or the named one, stands against the best rival."""
    learned = [row for row in record["starts"] if row["learned"] and name in (None, row["name"])]
    own, steps = _best(learned, record["steps"])
    rival, its = _best([row for row in record["starts"] if not row["learned"]], record["steps"])
    i, j = record["steps"].index(steps), record["steps"].index(its)
    gains = [b[j] - a[i] for a, b in zip(own["values"], rival["values"], strict=True)]
    return Best(own, steps, rival, its, gains)


def sentence(record: dict[str, Any]) -> str:
    """Return the sentence to remember, with the points where rivals catch up."""
    k, best_start = record["headline"], best_of(record)
    own, steps, rival, its = best_start.own, best_start.steps, best_start.rival, best_start.its
    i, j = record["steps"].index(steps), record["steps"].index(its)
    gain, half = confidence(best_start.gains)
    found = leads(record, own["name"])
    at = next(one for one in found if one.step == k)
    reading = record["reading on"]
    best = min((row for row in reading["rows"] if row["learned"]), key=lambda row: row["whole"])
    other, more, wide = lead(reading, best["name"])
    return (
        f"Having read {record['page']:,} characters of a language that it never saw, the start that {own['name']} "
        f"learned predicts later pages at {own['mean'][i]:.2f} bits a character after {steps} steps, the best rival "
        f"({rival['name']}) at {rival['mean'][j]:.2f} after {its}, each as many as serve it best on other languages: a "
        f"gain of {gain:+.3f} ± {half:.3f}; after the {k} steps that it was trained for it is {at.gain:+.3f} ± "
        f"{at.ci95:.3f} against the best rival there ({at.rival}), and {_where(found)}; counts of the same page have "
        f"{record['n-grams'][str(record['page'])]['mean']:.2f}. Reading {reading['chunks'] * reading['characters']:,} "
        f"characters on line, {best['name']} has {best['whole']:.2f}, {more:+.3f} ± {wide:.3f} against the best rival "
        f"({other}){_overtaken(reading, best)}."
    )


def _best(rows: Sequence[dict[str, Any]], steps: Sequence[int]) -> tuple[dict[str, Any], int]:
    """Return the start and the number of steps that do best on the validation languages."""
    scored = [
        (choice["score"], i, k) for i, row in enumerate(rows) for k, choice in zip(steps, row["chosen"], strict=True)
    ]
    _, i, k = min(scored)
    return rows[i], k


def _where(found: Sequence[Lead]) -> str:
    """Return after which of the numbers of steps a start is ahead of every rival."""
    every = _listed([lead.step for lead in found])
    ahead = [lead.step for lead in found if lead.gain > 0]
    sure = [lead.step for lead in found if lead.gain > lead.ci95]
    if not ahead:
        return f"a rival is level or ahead after each of {every} steps"
    beyond = f"beyond its interval after {_listed(sure)}" if sure else "beyond its interval nowhere"
    return f"of {every} steps it is ahead after {_listed(ahead)}, {beyond}"


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps[:-1])) + (" and " if len(steps) > 1 else "") + str(steps[-1])


def _overtaken(reading: dict[str, Any], own: dict[str, Any]) -> str:
    """Return from where on counts predict better than a model that reads on."""
    counts = next(row for row in reading["rows"] if row["name"] == COUNTED)
    behind = [a > b for a, b in zip(own["mean"], counts["mean"], strict=True)]
    first = next((j for j in range(len(behind)) if all(behind[j:])), None)
    if first is None:
        return "; counts on line are behind it to the end"
    return f"; counts on line are ahead of it from character {first * reading['characters'] + 1:,} on"


def thirds(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the gain of each learned start over the best rival in thirds of the languages by their distance.

    The first third is the farthest from any training language; each is taken after the steps that serve it best.
    """
    nearest = record["languages"]["nearest"]
    order = sorted(range(len(nearest)), key=lambda i: nearest[i])
    found = {}
    for name in [row["name"] for row in record["starts"] if row["learned"]]:
        gains, parts = best_of(record, name).gains, []
        for third in range(3):
            some = order[third * len(order) // 3 : (third + 1) * len(order) // 3]
            if not some:
                continue
            gain, half = confidence([gains[i] for i in some])
            ends = [nearest[some[0]], nearest[some[-1]]]
            parts.append({"nearest": ends, "gain": round(gain, 4), "ci95": round(half, 4), "count": len(some)})
        found[name] = parts
    return found
