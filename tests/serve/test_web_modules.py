"""The modules of the page: what they import exists, and no import leads back to where it began."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import fastadapt.serve

WEB = Path(fastadapt.serve.__file__).parent / "web"
IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["']\./([\w.-]+)["']""")  # lazy ones too: `await import("./token.js")`


def imports() -> dict[str, set[str]]:
    return {path.name: set(IMPORT.findall(path.read_text(encoding="utf-8"))) for path in WEB.glob("*.js")}


def test_what_a_module_imports_exists() -> None:
    found = imports()
    assert len(found) > 20 and len(found["main.js"]) > 10
    assert {name: away for name, others in found.items() if (away := others - set(found))} == {}


def test_no_import_leads_back_to_where_it_began() -> None:
    assert "main.js" in TopologicalSorter(imports()).static_order()  # a CycleError would name the circle


def test_all_forms_of_import_are_seen() -> None:
    text = 'import { a,\n  b } from "./a.js";\nimport "./b.js";\nawait import("./c.js");\nexport * from \'./d.js\';'
    assert IMPORT.findall(text) == ["a.js", "b.js", "c.js", "d.js"]
