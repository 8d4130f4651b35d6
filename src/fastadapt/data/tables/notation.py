"""How numbers are written: each notation is a row of a table, and a cell is taken apart by one pattern."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastadapt.data.tables.stored import is_stored

PLAIN = "1234.5"
NOTATIONS = {  # what 1234.5 looks like: (decimal mark, mark between thousands)
    PLAIN: (".", ""),
    "1234,5": (",", ""),
    "1,234.5": (".", ","),
    "1 234.5": (".", " "),
    "1'234.5": (".", "'"),
    "1.234,5": (",", "."),
    "1 234,5": (",", " "),
    "1'234,5": (",", "'"),
}
"""The simplest first: what several of them read alike is said to be written in the first."""

_CODES = (
    "AED ARS AUD BDT BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP GHS HKD HUF IDR ILS INR ISK JPY KES KRW MAD MXN "
    "MYR NGN NOK NZD PEN PHP PKR PLN RON RSD RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR"
)
_MONEY = "kr|kr\\.|zł|Kč|Ft|лв|руб\\.?|SFr\\.?|Fr\\.?|RM|Rp|Rs\\.?|TL|lei|S/\\.?|euros?|Euros?|dollars?|" + "|".join(
    _CODES.split()
)
_SYMBOL = "[A-Z]{0,3}[$¢-¥֏؋৲৳৻૱௹฿៛₠-⃀﷼﹩＄￠￡￥￦]"
_CURRENCY = f"{_SYMBOL}|{_MONEY}"
_UNITS = (
    "% ‰ ° °C °F ℃ ℉ kg g mg µg μg t lb lbs oz km m cm mm µm μm nm mi ft in km² m² cm² km2 m2 m3 m³ ha l L ml mL cl dl "
    "s ms µs μs min h hr hrs hours days years yrs Hz kHz MHz GHz W kW MW Wh kWh MWh V mV kV A mA Ω J kJ kcal cal Pa "
    "hPa kPa bar mbar psi N km/h m/s mph kn mg/l mg/L mg/dL g/l mmol/l mmol/L ppm ppb dB px pct percent points pts"
)
_SUFFIX = "|".join(re.escape(unit) for unit in sorted(_UNITS.split(), key=len, reverse=True))
_CELL = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[+-])?\s*(?P<before>{_CURRENCY})?\s*(?P<inner>[+-])?(?P<inside>\()?\s*"
    r"(?P<core>\d[\d.,' ]*|[.,]\d+)"
    r"(?P<exponent>[eE][+-]?\d+|\s[eE][+-]\d+|[dD][+-]\d+|\s?[×x·*]\s?10(?:\^|\*\*)[+-]?\d+)?\s*"
    rf"(?P<after>{_CURRENCY}|{_SUFFIX})?\s*(?P<close>\))?"
)
_MINUS = re.compile("^(\\s*\\(?[^\\d]{0,4}?)[−‒–﹣－⁻](?=[^\\d]{0,4}[\\d.,])")
_ALIKE = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "´": "'", "`": "'"})
_SEAT = re.compile(r"\d[A-Z]$")  # 12A is a seat; 12 amperes are written 12 A
_INFINITE = re.compile(r"[+-]?(?:inf|infinity)", re.IGNORECASE)
_ODD = re.compile(rf"[^\w]*(?:{_CURRENCY})?[^\w]*(?:[\d½¼¾⅓⅔_][^a-zA-Z:/]*)(?:{_CURRENCY}|{_SUFFIX})?[^\w]*")
_RANGE = re.compile(r"[\d.,]\s*[-–—]\s*\d")  # 10-20 is a bracket, and no number


@dataclass(frozen=True)
class Parts:
    """Hold a cell taken apart.

    Args:
        negative: whether it has a minus sign or is in parentheses, as accounts write it.
        enclosed: whether it is in parentheses.
        core: the digits with their marks.
        exponent: of ten.
        unit: the currency, per cent or unit, "" for none.
        money: whether the unit is a currency.
    """

    negative: bool
    enclosed: bool
    core: str
    exponent: int
    unit: str
    money: bool


def _grouped(mark: str) -> str:
    if not mark:
        return r"\d+"
    by = re.escape(mark)
    lakhs = rf"|[1-9]\d?(?:{by}\d\d)+{by}\d{{3}}" if mark == "," else ""
    return rf"(?:\d+|[1-9]\d{{0,2}}(?:{by}\d{{3}})+{lakhs})"


_CORES = {
    name: re.compile(rf"{_grouped(group)}(?:{re.escape(decimal)}\d*)?|{re.escape(decimal)}\d+")
    for name, (decimal, group) in NOTATIONS.items()
}


@functools.lru_cache(maxsize=50_000)  # a cell is looked at when its column is judged, and again when it is read
def take_apart(cell: str) -> Parts | None:
    """Return the parts of a cell that holds a number in some notation, or in none; None where it holds something else.

    Example:
        >>> take_apart("−€ 1.234,50"), take_apart("Q1")
        (Parts(negative=True, enclosed=False, core='1.234,50', exponent=0, unit='€', money=True), None)
    """
    text = _MINUS.sub(r"\1-", " ".join(cell.translate(_ALIKE).split()), count=1)
    found = _CELL.fullmatch(text)
    if found is None:
        return None
    signs = [sign for sign in (found["sign"], found["inner"]) if sign]
    opened = bool(found["open"]) + bool(found["inside"])
    if len(signs) > 1 or opened != bool(found["close"]) or (opened and signs):
        return None
    if _SEAT.search(text):
        return None
    exponent = re.sub(r"^[^+\-\d]*(?:10(?:\^|\*\*))?", "", found["exponent"] or "0")
    before, after = found["before"] or "", found["after"] or ""
    money = bool(before) or bool(after and re.fullmatch(_CURRENCY, after))
    unit = f"{before} {after}".strip()
    return Parts("-" in signs or opened > 0, opened > 0, found["core"].strip(), int(exponent[:6]), unit, money)


def looks_odd(cell: str) -> bool:
    """Return whether a cell looks like a number in a notation that is not known: "5-", "1_000", "<0.1", "12*"."""
    return _ODD.fullmatch(cell) is not None and _RANGE.search(cell) is None


def readings(parts: Parts) -> frozenset[str]:
    """Return the notations in which a number can be read.

    Example:
        >>> sorted(readings(take_apart("1,234"))), sorted(readings(take_apart("1.234.567,8")))
        (['1 234,5', "1'234,5", '1,234.5', '1.234,5', '1234,5'], ['1.234,5'])
    """
    return frozenset(name for name, pattern in _CORES.items() if pattern.fullmatch(parts.core))


_SIMPLE = re.compile(r"[+-]?(\d+)(?:\.(\d*))?")
_ANY = frozenset(NOTATIONS)
POINT = frozenset(name for name, (decimal, _) in NOTATIONS.items() if decimal == ".")
"""How "1.5" can be read."""
EITHER = POINT | {"1.234,5"}
"""How "1.234" can be read."""


def simple_readings(cell: str) -> frozenset[str] | None:
    """Return `readings` of a cell without unit, group and exponent, many times faster; None for any other cell."""
    found = _SIMPLE.fullmatch(cell)
    if found is None:
        return None
    whole, rest = found.groups()
    if rest is None:
        return _ANY
    return EITHER if len(rest) == 3 and len(whole) <= 3 and whole[0] != "0" else POINT


def value_of(parts: Parts, written: str) -> float | None:
    """Return the number that the parts are in a notation; None if they are none.

    Example:
        >>> value_of(take_apart("1,234"), "1,234.5"), value_of(take_apart("1,234"), "1234,5")
        (1234.0, 1.234)
    """
    if not _CORES[written].fullmatch(parts.core):
        return None
    decimal, group = NOTATIONS[written]
    digits = parts.core.replace(group, "") if group else parts.core
    return float(f"{'-' if parts.negative else ''}{digits.replace(decimal, '.')}e{parts.exponent}")


def read_number(cell: str, written: str = PLAIN, unit: str = "") -> float | None:
    """Return the number in a cell, infinite ones included; None if it is none in this notation and unit.

    Args:
        cell: the text.
        written: a key of `NOTATIONS`.
        unit: what stands beside the numbers. A currency may be left out, any other unit may not.

    Example:
        >>> read_number("1,5"), read_number("1,5", "1234,5"), read_number("1_5"), read_number("$1,520", "1,234.5", "$")
        (None, 1.5, None, 1520.0)
    """
    if (written == PLAIN or is_stored(cell)) and (not unit or is_money(unit)) and "_" not in cell:
        try:  # most tables are written so, and this is many times faster
            return float(cell)
        except ValueError:
            pass
    if _INFINITE.fullmatch(cell):
        return float(cell)
    parts = take_apart(cell)
    if parts is None or (parts.unit != unit and (parts.unit or not is_money(unit))):
        return None
    return value_of(parts, written)


def plain_numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Return finite numbers that are all written as a program does, at once; None if any cell is something else."""
    try:
        values = np.array(cells).astype(np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() and not any("_" in cell for cell in cells) else None


def is_money(unit: str) -> bool:
    """Return whether a unit is a currency."""
    return bool(unit) and re.match(_CURRENCY, unit) is not None


def shown_notation(written: str, unit: str) -> str:
    """Return a notation as it may be told.

    Example:
        >>> shown_notation("1,234.5", "$"), shown_notation("1234.5", "")
        ('1,234.5 in $', '1234.5')
    """
    return f"{written} in {unit}" if unit else written
