"""The duel: three problems on which meta-learning was tried, beside a Gaussian prior over tasks in closed form."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastadapt.atomic import write_text
from fastadapt.data.download import data_folders
from fastadapt.errors import ConfigError, DataError
from fastadapt.results.evaluation_json import json_values
from fastadapt.showcases.duel_figure import duel_figure
from fastadapt.showcases.panel import Panel
from fastadapt.showcases.phantom_duel import PhantomSizes, phantom_panel
from fastadapt.showcases.receiver_duel import ReceiverSizes, receiver_panel
from fastadapt.showcases.school_duel import SchoolSizes, school_panel, table_in
from fastadapt.showcases.showcase import Shown, ShowSettings

SHARES = {"receiver": 0.42, "phantoms": 0.1, "school": 0.14}
"""Of the minutes, for the meta-training of each panel; the rest is for tuning, closed forms and tests."""
TITLE = "Try the straight line first"


def run(settings: ShowSettings) -> Shown:
    """Train, tune, measure and draw.

    Raises:
        ConfigError: for a setting outside its range.
        DataError: if there is no School table in a folder that was given.
        MissingExtraError: if matplotlib is not installed.
    """
    if settings.device.type != "cpu":
        raise ConfigError(f"the duel runs on the CPU, as its networks are small; got {settings.device.type}")
    school, small, seed = _school(settings.data), settings.small, settings.seed
    seconds = {name: 0.0 if small else 60 * settings.minutes * share for name, share in SHARES.items()}
    receiver = ReceiverSizes((4,), (4,), 100, 50, 20, 100, (1, 5)) if small else ReceiverSizes()
    phantoms = PhantomSizes((4,), 300, 10, 6, (4,), 2) if small else PhantomSizes()
    schools = SchoolSizes((5,), 20, 1) if small else SchoolSizes()
    ways: dict[str, Callable[[], Panel]] = {
        "receiver": lambda: receiver_panel(receiver, seconds["receiver"], seed),
        "phantoms": lambda: phantom_panel(phantoms, seconds["phantoms"], seed),
    }
    if school is not None:
        ways["school"] = lambda: school_panel(schools, seconds["school"], seed, school)
    records = [_kept(settings, name, way) for name, way in ways.items()]
    result = rounded({"title": TITLE, "panels": records, "not measured": _not_measured(records)})
    told = sentence(records)
    return Shown(result, duel_figure(result, told), told)


def _school(data: Path | None) -> Path | None:
    """Return the table of schools; None where nobody said where data are and it isn't where they usually lie."""
    if data is not None:
        return table_in(data)
    for folder in data_folders("tabular"):
        if (folder / "school.csv").is_file():
            return folder / "school.csv"
    return None


def _kept(settings: ShowSettings, name: str, way: Callable[[], Panel]) -> dict[str, Any]:
    """Return a panel's numbers, measured unless a duel of the same minutes and seed has left them in the folder."""
    path, asked = settings.out / "panels" / f"{name}.json", {"minutes": settings.minutes, "seed": settings.seed}
    asked |= {"small": True} if settings.small else {}
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["asked"] == asked:
                return record["panel"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error!r}); remove it, and it is measured again") from None
    began = time.monotonic()
    record = way().record()
    record["seconds"] = round(time.monotonic() - began, 1)
    write_text(path, json.dumps(json_values(rounded({"asked": asked, "panel": record})), indent=1) + "\n")
    return record


def sentence(records: list[dict[str, Any]]) -> str:
    """Return what a person should remember: who won where, by the paired intervals.

    It counts, over all sizes of all problems, where the best method that was meta-trained is better or worse than the
    Gaussian or can't be told from it.
    """
    counts = {"better": 0, "worse": 0, "no difference can be told": 0}
    for record in records:
        learned = [row for row in record["methods"] if row["role"] == "learned"]
        for column in range(len(record[record["unit"]])):
            best = max(learned, key=lambda row, column=column: row["gain over the Gaussian"][column])
            counts[best["verdict"][column]] += 1
    total = sum(counts.values())
    told = f"in {counts['worse']} of {total} settings of {len(records)} problems it beats the best meta-trained network"
    ties, losses = counts["no difference can be told"], counts["better"]
    told += f", in {ties} no difference can be told" if ties else ""
    told += f", and in {losses} it is beaten" if losses else ", and in none it is beaten"
    return (
        f"Try the straight line first: a Gaussian prior over tasks costs seconds, and {told}; a learned start pays "
        "where optimisation is the bottleneck."
    )


def _not_measured(panels: list[dict[str, Any]]) -> list[str]:
    lacks = [
        "Total variation and images above 32x32 pixels of the tomography; its field is smaller than the published one.",
        "More than one seed of the meta-trained networks.",
        "Real data for the first two panels: they are simulated from models that a Gaussian fits well.",
    ]
    return lacks + ["The School table: no folder of data was given."] * (len(panels) < 3)


def rounded(value: Any) -> Any:
    """Return the same with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value
