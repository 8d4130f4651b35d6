"""What is to be said of the showcase of languages: the sentence to remember, and thirds by distance."""

from collections.abc import Sequence
from typing import Any

from fastadapt.evaluation import confidence
from fastadapt.showcases.race import Lead, leads
from fastadapt.showcases.reading import COUNTED, lead


def sentence(record: dict[str, Any]) -> str:
    """Return the sentence to remember, with the points where rivals catch up."""
    starts, k = record["starts"], record["headline"]
    own, steps = _best([row for row in starts if row["learned"]], record["steps"])
    rival, its = _best([row for row in starts if not row["learned"]], record["steps"])
    i, j = record["steps"].index(steps), record["steps"].index(its)
    gain, half = confidence([b[j] - a[i] for a, b in zip(own["values"], rival["values"], strict=True)])
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
    """Return, for each meta-learned start, its gain at the headline in thirds of the languages by their distance.

    The first third is the farthest from any training language; a gain is over the best tuned rival of all languages.
    """
    j, names, nearest = record["steps"].index(record["headline"]), record["languages"]["names"], record["languages"]
    order = sorted(range(len(names)), key=lambda i: nearest["nearest"][i])
    found = {}
    for row in record["starts"]:
        if not row["learned"]:
            continue
        rival = next(r for r in record["starts"] if r["name"] == leads(record, row["name"])[j].rival)
        parts = []
        for third in range(3):
            some = order[third * len(order) // 3 : (third + 1) * len(order) // 3]
            if not some:
                continue
            gain, half = confidence([rival["values"][i][j] - row["values"][i][j] for i in some])
            low, high = (nearest["nearest"][some[end]] for end in (0, -1))
            parts.append({"nearest": [low, high], "gain": round(gain, 4), "ci95": round(half, 4), "count": len(some)})
        found[row["name"]] = parts
    return found
