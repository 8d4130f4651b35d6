"""The programs of docs/from_other_libraries.md: their gradients are right, and the other libraries printed the same."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("peers_side_by_side", ROOT / "benchmarks" / "peers_side_by_side.py")
_known = [*sys.path]
side_by_side = importlib.util.module_from_spec(_spec)
sys.modules["peers_side_by_side"] = side_by_side  # where dataclasses look for their module
_spec.loader.exec_module(side_by_side)
sys.path[:] = _known

PAGE = side_by_side.PAGE.read_text(encoding="utf-8")
PROGRAMS = side_by_side.programs(PAGE)
RECORD = json.loads(side_by_side.OUT.read_text(encoding="utf-8"))
OURS = [pytest.param(p, id=f"{i} {p.section}") for i, p in enumerate(PROGRAMS) if p.library == "fastadapt"]


def execute(program):
    """Run a program; return its names and the leaves whose gradients it shows."""
    names, shown = {"__name__": "__docs__"}, []
    exec(compile(program.ahead, "ahead", "exec"), names)
    show = names["show"]
    names["show"] = lambda loss, *leaves: (shown.extend(leaves), show(loss, *leaves))
    exec(compile(program.block, program.section, "exec"), names)
    return names, shown


def central_differences(objective, leaf, direction, width=1e-4):
    """Return the slope of `objective()` along a direction of a leaf, by a formula of fourth order."""

    def moved(by):
        kept = leaf.detach().clone()
        leaf.data += by * direction
        value = float(objective().detach())
        leaf.data.copy_(kept)
        return value

    near, far = moved(width) - moved(-width), moved(2 * width) - moved(-2 * width)
    return (8 * near - far) / (12 * width)


@pytest.mark.parametrize("program", OURS)
def test_the_gradient_is_that_of_central_differences(program):
    names, leaves = execute(program)
    assert names["loss"].dtype == torch.float64
    for leaf in leaves:
        assert leaf.dtype == torch.float64
        few = leaf.numel() <= 3
        directions = torch.eye(leaf.numel()) if few else torch.randn(2, leaf.numel())
        directions = [row.double().view_as(leaf) for row in directions]
        slopes = [central_differences(names["objective"], leaf, d) for d in directions]
        expected = torch.tensor(slopes, dtype=torch.float64)
        got = torch.stack([(leaf.grad * d).sum() for d in directions])
        assert float(expected.norm()) > 0
        assert float((got - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.parametrize("program", OURS)
def test_it_prints_what_was_recorded_beside_the_other_library(program, capsys):
    execute(program)
    printed = [float(word) for word in capsys.readouterr().out.split()]
    recorded = [r["printed"] for r in RECORD["programs"] if r["section"] == program.section]
    assert recorded
    for theirs in recorded:
        assert side_by_side.relative_difference(printed, theirs) <= side_by_side.TOLERANCE


def test_what_was_recorded_is_of_the_programs_of_the_page():
    assert [r["sha256"] for r in RECORD["programs"]] == [p.checksum for p in PROGRAMS]
    assert RECORD["largest_relative_difference"] <= side_by_side.TOLERANCE
    assert not [facts for facts in RECORD["libraries"].values() if "not_installed" in facts]


def test_every_example_has_its_program_in_another_library():
    alone = {"MAML on the tasks of an easyfsl loader", "Weights of tasks"}
    for section in dict.fromkeys(p.section for p in PROGRAMS):
        libraries = {p.library for p in PROGRAMS if p.section == section}
        assert "fastadapt" in libraries
        assert len(libraries) > 1 or section in alone
    assert {p.library for p in PROGRAMS} == {"learn2learn", "higher", "torchopt", "easyfsl", "iteryne", "fastadapt"}


def test_the_page_says_of_the_libraries_what_the_probes_found():
    for library, found in RECORD["probes"].items():
        row = re.search(rf"^\| {library} \|(.*)\|$", PAGE, re.MULTILINE)
        assert row, library
        cells = [cell.strip() for cell in row[1].split("|")]
        assert cells[-len(found) :] == ["yes" if holds else "no" for holds in found.values()], library
    for library, facts in RECORD["libraries"].items():
        assert re.search(rf"^\| {library} {re.escape(facts[library])} \|", PAGE, re.MULTILINE), library
