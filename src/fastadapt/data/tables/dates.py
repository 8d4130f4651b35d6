"""How dates and times are written, and what they become: year, month, day, weekday, hour and days that have passed."""

import datetime
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

DateOrder = Literal["auto", "day-first", "month-first"]
PARTS = ("year", "month", "day", "weekday", "hour", "elapsed")
"""What a date becomes; "weekday" is 0 for Monday, "elapsed" counts days, with their fraction."""
NO_ZONE = "none"
"""What stands for zones where no time has one."""
_FARTHEST = {"+": 14, "-": 12}  # hours that clocks are ahead of UTC and behind it, at most
_EPOCH = datetime.datetime(1970, 1, 1)
_MORE = (
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jan feb mär apr mai jun jul aug sep okt nov dez",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "janv févr mars avr mai juin juil août sept oct nov déc",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "ene feb mar abr may jun jul ago sep oct nov dic",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "gen feb mar apr mag giu lug ago set ott nov dic",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "jan fev mar abr mai jun jul ago set out nov dez",
    "januari februari maart april mei juni juli augustus september oktober november december",
    "jan feb mrt apr mei jun jul aug sep okt nov dec",
)
"""The months in German, French, Spanish, Italian, Portuguese and Dutch; no name is two months."""
_OTHERS = {
    "jän": 1,
    "jänner": 1,
    "mrz": 3,
    "marts": 3,
    "maj": 5,
    "augusti": 8,
    "setiembre": 9,
    "des": 12,
    "desember": 12,
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
         "december")  # fmt: skip
_ENGLISH = {
    **{name: i for i, name in enumerate(_MONTHS, 1)}, **{name: i for i, name in enumerate(_LONG, 1)}, "sept": 9
}  # fmt: skip
_NUMBER_OF = {**{name: i for names in _MORE for i, name in enumerate(names.split(), 1)}, **_OTHERS, **_ENGLISH}
MONTH = rf"(?:{'|'.join(sorted(_NUMBER_OF, key=len, reverse=True))})\.?"
"""The name of a month, in small letters."""
_NAME = r"(?:de\s+)?(?P<name>[^\W\d_]{3,10})\.?(?:\s+de\b)?"
_MONTH = rf"(?:{'|'.join(sorted(_ENGLISH, key=len, reverse=True))})\.?"  # of others a short one is a word: set 12
_WEEKDAY = r"(?:[^\W\d_]{2,12}\.?,?\s+)?"
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_DATED_CLOCK = _CLOCK.replace(r"\d{2}:?\d{2})?", r"\d{2}(?::?\d{2})?)?")  # 10:00-05; alone that is a span of hours
_DAYS = {
    "2024-03-31": r"(?P<year>\d{4})(?P<by>[-/.])(?P<month>\d{1,2})(?P=by)(?P<day>\d{1,2})",
    "2024-03": r"(?P<year>\d{4})-(?P<month>\d{2})",
    "Mar 2024": rf"{_NAME}[-/,\s]+(?P<year>\d{{4}})",
    "03/2024": r"(?P<month>\d{1,2})[/.-](?P<year>\d{4})",
    "31/03/2024": r"(?P<day>\d{1,2})(?P<by>[-/.])(?P<month>\d{1,2})(?P=by)(?P<year>\d{4})",
    "03/31/2024": r"(?P<month>\d{1,2})(?P<by>[-/.])(?P<day>\d{1,2})(?P=by)(?P<year>\d{4})",
    "31 Mar 2024": rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)?[-\s]*{_NAME}[-,\s]+(?P<year>\d{{4}})",
    "Mar 31, 2024": rf"{_WEEKDAY}{_NAME}[-\s]*(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[-,\s]+(?P<year>\d{{4}})",
}
FORMS = {
    **{name: re.compile(rf"{day}(?:[T ,]+{_DATED_CLOCK})?") for name, day in _DAYS.items()},
    "20240331T1000": re.compile(
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?:T|\s+(?=\d\d:))(?P<hour>\d{2}):?(?P<minute>\d{2})"
        r"(?::?(?P<second>\d{2}(?:[.,]\d+)?))?(?P<half>(?!))?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
    ),
    "12:30": re.compile(_CLOCK),
}
"""Each form by its example."""
_EITHER = ("31/03/2024", "03/31/2024")
_SURE = tuple(name for name in FORMS if name not in (*_EITHER, "12:30"))
SHORT_YEAR = re.compile(
    rf"(?:\d{{1,2}}([-/.])\d{{1,2}}\1|(?:\d{{1,2}}(?:st|nd|rd|th)?[-/.,\s]*)?{_MONTH}[-/.,'\s]*(?:\d{{1,2}}[,\s]+)?)\d{{2}}"
    rf"(?:[T ,]+{_CLOCK})?",
    re.IGNORECASE,
)
"""A date of which the century is not told, nor the order where the month is a number."""
COMPACT = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
"""A date written as one number."""


@dataclass(frozen=True)
class Moment:
    """Hold a point in time as it is written, and how far from UTC its clock is; None where it is not told."""

    at: datetime.datetime
    zone: float | None = None

    def part(self, name: str) -> float:
        """Return one of `PARTS` as a number.

        Example:
            >>> [read_date("2024-03-31 06:00").part(name) for name in PARTS]
            [2024.0, 3.0, 31.0, 6.0, 6.0, 19813.25]
        """
        if name == "elapsed":
            return (self.at - _EPOCH - datetime.timedelta(hours=self.zone or 0)) / datetime.timedelta(days=1)
        if name == "weekday":
            return float(self.at.weekday())
        if name == "hour":
            return self.at.hour + self.at.minute / 60 + (self.at.second + self.at.microsecond / 1e6) / 3600
        return float(getattr(self.at, name))


@functools.lru_cache(maxsize=100_000)
def read_date(cell: str, written: str = "2024-03-31") -> Moment | None:
    """Return the date in a cell; None if there is none in this form, nor in one that can't be mistaken.

    Example:
        >>> read_date("31.03.2024", "31/03/2024").at.isoformat(), read_date("03/04/2024"), read_date("2023-02-29")
        ('2024-03-31T00:00:00', None, None)
    """
    others = () if written == "12:30" else _SURE
    return next((found for form in (written, *others) if (found := _in_form(cell, form)) is not None), None)


def _in_form(cell: str, form: str) -> Moment | None:
    found = FORMS[form].fullmatch(cell)
    if found is None:
        return None
    words = found.groupdict()
    name = words.get("name")
    month = _NUMBER_OF.get(name.lower(), 0) if name else int(words.get("month") or 1)
    second = float((words["second"] or "0").replace(",", "."))
    try:
        hour = _hour(int(words["hour"] or 0), words["half"])
        day = datetime.datetime(int(words.get("year") or 1970), month, int(words.get("day") or 1))
        clock = datetime.time(hour, int(words["minute"] or 0), int(second), round(second % 1 * 1e6) % 1_000_000)
        return Moment(datetime.datetime.combine(day, clock), _zone(words["zone"]))
    except ValueError:  # no such day or hour
        return None


def _hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(hour)
    return hour % 12 + (12 if half.lower().startswith("p") else 0)


def _zone(zone: str | None) -> float | None:
    if zone is None:
        return None
    if not zone.startswith(("+", "-")):
        return 0.0
    hours = int(zone[1:3]) + (int(zone[-2:]) / 60 if len(zone) > 3 else 0)
    if hours > _FARTHEST[zone[0]]:
        raise ValueError(zone)
    return -hours if zone.startswith("-") else hours


def zones_of(moments: Iterable[Moment]) -> str:
    """Return how far from UTC the clocks of some moments are, or "none" where none tells.

    Example:
        >>> zones_of([Moment(_EPOCH, 2.0), Moment(_EPOCH, 1.0)]), zones_of([Moment(_EPOCH)])
        ('+01:00 +02:00', 'none')
    """
    zones = sorted({moment.zone for moment in moments if moment.zone is not None})
    return " ".join(map(_offset, zones)) or NO_ZONE


def _offset(zone: float) -> str:
    minutes = round(60 * abs(zone))
    return f"{'-' if zone < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def by_the_clock(moment: Moment, zones: str, written: str) -> Moment | str:
    """Return a moment as the clock of the training has it, so that one instant is one value; or what is wrong with it.

    Where the training had one zone a time of another is brought to it. Where it had several, those are taken as they
    are written, by the clocks of several places or of summer and winter, and no other has a clock to be brought to.

    Args:
        moment: of a cell.
        zones: those of the training, as `zones_of` tells them; "" of a run that does not know.
        written: the form of the column's dates.

    Example:
        >>> by_the_clock(read_date("2024-03-05T08:00Z"), "+02:00", "2024-03-31").part("hour")
        10.0
        >>> by_the_clock(read_date("2024-03-05T08:00"), "+02:00", "2024-03-31")
        'has no zone, and in the training all have one (+02:00); write it with its zone'
    """
    if not zones or (moment.zone is None and zones == NO_ZONE):
        return moment
    listed = zones.replace(" ", ", ")
    if moment.zone is None:
        return f"has no zone, and in the training all have one ({listed}); write it with its zone"
    if zones == NO_ZONE:
        return "has a zone, and in the training none has; write it by the same clock, without a zone"
    known = zones.split()
    if _offset(moment.zone) in known:
        return moment
    if len(known) > 1:
        return f"has the zone {_offset(moment.zone)}, and the training has others ({listed}); write it in one of these"
    zone = _zone(known[0])
    assert zone is not None
    at = moment.at + datetime.timedelta(hours=zone - moment.zone)
    if written == "12:30":
        at = datetime.datetime.combine(_EPOCH, at.time())  # a time of day has no day
    return Moment(at, zone)


def forms_of(cells: Sequence[str]) -> list[str]:
    """Return the forms in which all of the cells are dates; two where day and month may be exchanged.

    Example:
        >>> forms_of(["03/04/2024", "05/06/2024"]), forms_of(["03/04/2024", "31/03/2024"]), forms_of(["1.5"])
        (['31/03/2024', '03/31/2024'], ['31/03/2024'], [])
    """
    if not cells or not any(mark in cells[0] for mark in ("-", "/", ".", ":", " ", "T")):
        return []
    forms = [form for form in FORMS if all(_in_form(cell, form) is not None for cell in cells)]
    if not forms and all(any(_in_form(cell, form) for form in _SURE) for cell in cells):
        forms = ["2024-03-31"]  # several that can't be mistaken
    if forms == ["2024-03"] and all((int(cell[2:4]) + 1) % 100 == int(cell[5:7]) for cell in cells):
        return []  # seasons: 2001-02 is a winter
    return forms
