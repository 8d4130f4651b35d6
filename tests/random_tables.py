"""Tables in random notations, with what they say: a locale of numbers and dates, an encoding, a delimiter, a head."""

import datetime
from dataclasses import dataclass, field

import numpy as np

DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")
GROUPS = {".": ("", "", ",", "'", "’", " ", "\u00a0", "\u202f"), ",": ("", "", ".", "'", " ", "\u00a0", "\u202f")}
MONEY = ("$", "€", "£", "USD", "CHF", "kr", "zł", "R$", "₹", "US$")
UNITS = ("%", "kg", "°C", "km/h", "ms", "m²")
WORDS = ("", "", "NA", "n/a", "NaN", "null", "-", "?", "None", "#N/A")
COLOURS = ("grün", "türkis", "été", "red", "dark blue", "ñandú")


@dataclass
class Told:
    """Hold a table's bytes, and the truth: numbers, days since 1970, or words; None for a missing value."""

    content: bytes
    truth: dict[str, list[object]]
    kinds: dict[str, str]
    encoding: str
    described: str
    seconds: dict[str, bool] = field(default_factory=dict)


def number_text(rng, value, decimals, decimal, group, minus, plus_exponent):
    text = f"{abs(value):.{decimals}f}"
    whole, _, rest = text.partition(".")
    if group:
        size = len(whole)
        whole = "".join((group if i and (size - i) % 3 == 0 else "") + c for i, c in enumerate(whole))
    text = whole + (decimal + rest if rest else "")
    if plus_exponent:
        mantissa, exponent = f"{abs(value):.6e}".split("e")
        text = mantissa.replace(".", decimal) + rng.choice(("e", "E")) + exponent
    return text if value >= 0 else f"({text})" if minus == "(" else minus + text


def number_column(rng, decimal, n):
    """Return texts, the numbers they are, and a description."""
    decimals = int(rng.choice((0, 0, 1, 2, 3, 3)))
    scale = 10.0 ** rng.integers(0, 7)
    signed = rng.random() < 0.4
    values = np.round(rng.lognormal(0, rng.choice((0.2, 2.0)), n) * scale, decimals)
    values = values * (rng.choice((-1, 1), n) if signed else 1)
    group = str(rng.choice(GROUPS[decimal]))
    minus = str(rng.choice(("-", "-", "−", "–", "(")))
    exponent = rng.random() < 0.1
    if exponent:
        group = ""
        values = np.array([float(f"{v:.6e}") for v in values])
    unit, before, space = "", False, ""
    if rng.random() < 0.35:
        money = rng.random() < 0.6
        unit = str(rng.choice(MONEY if money else UNITS))
        before, space = bool(money and rng.random() < 0.5), str(rng.choice(("", " ", "\u00a0")))
    texts = []
    for value in values:
        text = number_text(rng, float(value), decimals, decimal, group, minus, exponent)
        if unit and before:
            sign = text[0] if text[0] in "-−–(" else ""
            inside = text[len(sign) :]
            text = sign + unit + space + inside if rng.random() < 0.5 or sign == "(" else unit + space + text
        elif unit:
            text = f"{text[:-1]}{space}{unit})" if text.endswith(")") else text + space + unit
        texts.append(text)
    return texts, [float(v) for v in values], f"{decimal}{group!r}{minus}{unit!r} {decimals} decimals"


DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d %b %Y", "%b %d, %Y", "%d-%B-%Y", "%d-%m-%Y")


def date_column(rng, n):
    """Return texts, days since 1970, and a description."""
    start = datetime.datetime(int(rng.integers(1950, 2030)), 1, 1)
    span = int(rng.choice((9, 300, 3000)))
    moments = [start + datetime.timedelta(days=int(d)) for d in rng.integers(0, span, n)]
    form, clock = str(rng.choice(DATES)), ""
    if rng.random() < 0.3:
        clock = str(rng.choice((" %H:%M", " %H:%M:%S", " %I:%M %p", "T%H:%M")))
        moments = [
            m + datetime.timedelta(minutes=int(x)) for m, x in zip(moments, rng.integers(0, 1440, n), strict=True)
        ]
    texts = [m.strftime(form + clock) for m in moments]
    day = datetime.timedelta(days=1)
    return texts, [(m - datetime.datetime(1970, 1, 1)) / day for m in moments], form + clock


def random_table(seed, tasks=8, size=6):
    """Return a table of one locale, one of whose columns may be in another."""
    rng = np.random.default_rng(seed)
    n = tasks * size
    mark = str(rng.choice((".", ",")))
    columns, truth, kinds, described = {}, {}, {}, []
    for i in range(int(rng.integers(1, 4))):
        own = mark if rng.random() < 0.9 else {".": ",", ",": "."}[mark]
        columns[f"n{i}"], truth[f"n{i}"], words = number_column(rng, own, n)
        kinds[f"n{i}"] = "number"
        described.append(f"n{i}: {words}")
    if rng.random() < 0.5:
        columns["when"], truth["when"], words = date_column(rng, n)
        kinds["when"] = "date"
        described.append(f"when: {words}")
    if rng.random() < 0.5:
        columns["colour"] = [str(c) for c in rng.choice(COLOURS, n)]
        truth["colour"], kinds["colour"] = list(columns["colour"]), "word"
    for name in list(columns):
        if rng.random() < 0.3:
            word = str(rng.choice(WORDS))
            for i in np.flatnonzero(rng.random(n) < 0.1).tolist():
                columns[name][i], truth[name][i] = word, None
    y = np.round(rng.normal(size=n) * 50, 2)
    own = number_column(rng, mark, n) if rng.random() < 0.3 else None
    columns["y"] = own[0] if own else [f"{v:.2f}".replace(".", mark) for v in y]
    truth["y"], kinds["y"] = (own[1] if own else [float(v) for v in y]), "number"
    columns = {"shop": [f"shop {i // size}" for i in range(n)], **columns}
    by, encoding = str(rng.choice(DELIMITERS)), str(rng.choice(ENCODINGS))
    head = [*(["# made by a program"] if rng.random() < 0.15 else [])]
    head = [f"sep={by}"] if by != "\t" and rng.random() < 0.1 else head
    end = by if rng.random() < 0.1 else ""
    quote = rng.random() < 0.3

    def cell(text):
        return f'"{text}"' if quote or by in text else text

    lines = [by.join(cell(text) for text in row) + end for row in (list(columns), *zip(*columns.values(), strict=True))]
    content = (str(rng.choice(("\n", "\r\n"))).join([*head, *lines]) + "\n").encode(encoding, "replace")
    if encoding == "cp1252":  # what it lacks became a question mark
        kept = {name: all(_kept(text) for text in texts) for name, texts in columns.items()}
        truth = {name: values for name, values in truth.items() if kept[name]}
    told = f"seed {seed}: {by!r} {encoding} {head} {end!r}; {'; '.join(described)}"
    return Told(content, truth, kinds, encoding, told)


def _kept(text):
    return text.encode("cp1252", "replace").decode("cp1252") == text
