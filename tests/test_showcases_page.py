"""Every number of docs/showcases.md comes from a committed result file, and its sentence from the numbers."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fastadapt.showcases import language_told, photo, speech

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "showcases"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("showcases_page", ROOT / "benchmarks" / "showcases.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_result_files_say() -> None:
    made = generator()
    found = (ROOT / "docs" / "showcases.md").read_text(encoding="utf-8")
    assert found == made.page(made.read()), "run python benchmarks/showcases.py"


SAID = {"photo": photo.sentence, "speech": speech.sentence, "language": language_told.sentence}


@pytest.mark.parametrize("name", sorted(file.stem for file in RESULTS.glob("*.json") if file.stem in SAID))
def test_the_sentence_and_the_means_are_those_of_the_tasks(name) -> None:
    record = generator().read()[name]
    assert record["sentence"] == SAID[name](record)
    for row in record["starts"]:
        assert len(row["values"]) == record["test tasks"]
        for j, mean in enumerate(row["mean"]):
            assert mean == pytest.approx(sum(v[j] for v in row["values"]) / len(row["values"]), abs=2e-3)
    assert (ROOT / "docs" / "images" / "showcases" / f"{name}.png").is_file()
