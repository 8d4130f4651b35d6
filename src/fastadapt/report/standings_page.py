"""A comparison of methods as one HTML file that needs nothing beside it: the picture, the tables, the sentences."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastadapt.atomic import write_text
from fastadapt.compare.standings import measured
from fastadapt.compare.told import failures, sentences, table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.failed { color: #b00020; }
"""


def write_page(record: Mapping[str, Any], path: Path | str, picture: Path | None) -> Path:
    """Write a comparison as HTML.

    Args:
        record: a comparison, as `fastadapt compare` writes it.
        path: the file to write.
        picture: the PNG of it, which is put into the page; None where there is none.

    Returns:
        `path`.

    Raises:
        CheckpointError: if the file can't be written.
    """
    title = html.escape(f"Methods compared on {record['on']}")
    parts = [f"<h1>{title}</h1>", *(f"<p>{html.escape(sentence)}</p>" for sentence in sentences(record))]
    if picture is not None:
        image = base64.b64encode(picture.read_bytes()).decode("ascii")
        parts.append(f'<img src="data:image/png;base64,{image}" alt="{title}: accuracies and costs, as in the tables">')
    for test, facts in record["tests"].items():
        if measured(record, test):
            parts.append(f"<h2>Tested on {html.escape(facts['words'])}</h2>")
            parts.append(_table(table(record, test)))
    parts += [f'<p class="failed">{html.escape(sentence)}</p>' for sentence in failures(record)]
    body = "\n".join(parts)
    write_text(
        Path(path),
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
    )
    return Path(path)


def _table(lines: Sequence[str]) -> str:
    """Return a Markdown table, whose cells have no bars of their own, as HTML."""
    rows = [[html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines]
    heading, cells = rows[0], rows[2:]
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heading)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
