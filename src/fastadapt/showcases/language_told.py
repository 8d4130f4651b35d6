"""What is to be said of the showcase of languages: the sentence to remember, and thirds by distance."""

from collections.abc import Sequence
from typing import Any

from fastadapt.evaluation import confidence
from fastadapt.showcases.race import Lead, leads
from fastadapt.showcases.reading import COUNTED, lead


def sentence(record: dict[str, Any]) -> str:
    """Return the sentence to remember, with the points where rivals catch up."""
    k = record["headline"]
    j = record["steps"].index(k)
    own = min((row for row in record["starts"] if row["learned"]), key=lambda row: row["mean"][j])
    found = leads(record, own["name"])
    at = found[j]
    page = record["n-grams"][str(record["page"])]["mean"]
    reading = record["reading on"]
    best = min((row for row in reading["rows"] if row["learned"]), key=lambda row: row["whole"])
    rival, gain, half = lead(reading, best["name"])
    total = reading["chunks"] * reading["characters"]
    return (
        f"After {k} gradient steps on {record['page']:,} characters of a language that it never saw, the start that "
        f"{own['name']} learned predicts later pages at {own['mean'][j]:.2f} bits a character, {at.gain:+.3f} ± "
        f"{at.ci95:.3f} against the best tuned rival ({at.rival}; above 0 is better); {_where(found)}; counts of the "
        f"same page have {page:.2f}. Reading {total:,} characters on line, {best['name']} has {best['whole']:.2f}, "
        f"{gain:+.3f} ± {half:.3f} against the best rival ({rival}){_overtaken(reading, best)}."
    )


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
