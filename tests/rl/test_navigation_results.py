"""Every number of the page on reinforcement learning comes from the committed result file."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_what_the_file_says(monkeypatch):
    spec = importlib.util.spec_from_file_location("navigation", ROOT / "benchmarks" / "navigation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(ROOT)
    text = module.PAGE.read_text(encoding="utf-8")
    found = text[text.index(module.BEGIN) : text.index(module.END) + len(module.END)]
    assert found == module.section(), "run python benchmarks/navigation.py measure"
