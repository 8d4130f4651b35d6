"""Every number of the README's results comes from a committed file."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_results_section_is_what_the_result_files_say() -> None:
    spec = importlib.util.spec_from_file_location("readme_results", ROOT / "benchmarks" / "readme_results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = text[text.index(module.BEGIN) : text.index(module.END) + len(module.END)]
    assert found == module.section(), "run python benchmarks/readme_results.py"
