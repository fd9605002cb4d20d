"""What can be said of a date, a time, a price, a bus or a seat, in English and Hinglish."""

from __future__ import annotations

import random

from wording import read_sections

_VALUES = read_sections("values")


def pick(section: str, rng: random.Random) -> str:
    """Return one entry of a section of ``wording/values.txt``."""
    return rng.choice(_VALUES[section])


def _ordinal(number: int) -> str:
    last = 0 if 10 < number % 100 < 20 else number % 10
    return str(number) + {1: "st", 2: "nd", 3: "rd"}.get(last, "th")


def _day_of_month(rng: random.Random) -> str:
    number = rng.randint(1, 31)
    return rng.choice((str(number), _ordinal(number), _ordinal(number)))


def _written_date(rng: random.Random) -> str:
    day, month = _day_of_month(rng), pick("MONTH", rng)
    year = rng.choice(("", "", "", f" {rng.randint(2023, 2032)}"))
    return rng.choice(
        (
            f"{day} {month}{year}",
            f"{day} {month}{year}",
            f"{month} {day}{year}",
            f"{month} {day},{year}" if year else f"{day}-{month}",
            f"{day} of {month}{year}",
            f"the {day} of {month}",
            f"{day}{month}",
        )
    )


def _number_date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 31), rng.randint(1, 12), rng.randint(2023, 2032)
    mark = rng.choice("/-.")
    return rng.choice(
        (
            f"{day}{mark}{month}{mark}{year}",
            f"{day:02}{mark}{month:02}{mark}{year}",
            f"{day:02}{mark}{month:02}{mark}{year % 100}",
            f"{day}/{month}",
            f"{day:02}/{month:02}",
            f"{year}-{month:02}-{day:02}",
            f"the {_ordinal(day)}",
            _ordinal(day),
        )
    )


def _weekday(rng: random.Random) -> str:
    day = pick("DAY", rng)
    return rng.choice(
        (
            day,
            f"next {day}",
            f"next {day}",
            f"this {day}",
            f"coming {day}",
            f"this coming {day}",
            f"{day} {_day_of_month(rng)} {pick('MONTH', rng)}",
            f"agle {pick('HINDI_DAY', rng)}",
            pick("HINDI_DAY", rng),
            f"{day} next week",
        )
    )


def date(rng: random.Random) -> str:
    """Return a day: ``tomorrow``, ``next Friday``, ``12th March``, ``05/11/2026``."""
    kind = rng.random()
    if kind < 0.32:
        return pick("DATE", rng)
    if kind < 0.58:
        return _weekday(rng)
    if kind < 0.82:
        return _written_date(rng)
    if kind < 0.97:
        return _number_date(rng)
    return rng.choice(("in {} days", "after {} days", "{} days later")).format(rng.randint(2, 20))


def time(rng: random.Random) -> str:
    """Return a time of day: ``9 pm``, ``21:30``, ``early morning``, ``raat 9 baje``."""
    if rng.random() < 0.4:
        return pick("TIME_OF_DAY", rng)
    hour, minute = rng.randint(1, 12), rng.choice((0, 5, 10, 15, 20, 30, 40, 45, 50))
    half = rng.choice(("am", "pm"))
    part = rng.choice(("morning", "evening", "night"))
    dotted = rng.choice(("a.m.", "p.m."))
    return rng.choice(
        (
            f"{hour} {half}",
            f"{hour}{half}",
            f"{hour}:{minute:02} {half}",
            f"{hour}:{minute:02}{half}",
            f"{hour}.{minute:02} {half}",
            f"{hour} {dotted}",
            f"{rng.randint(0, 23):02}:{minute:02}",
            f"{rng.randint(0, 23)}:{minute:02}",
            f"{hour} o'clock",
            f"{hour} in the {part}",
            f"{hour} o'clock in the {part}",
            f"{hour} baje",
            f"{rng.choice(('subah', 'raat', 'shaam'))} {hour} baje",
            f"{pick('NUMBER', rng)} {half}",
            f"{rng.randint(1, 23):02}{minute:02} hrs",
        )
    )


def part_of_day(rng: random.Random) -> str:
    """Return a part of the day: ``morning``, ``late night``."""
    return pick("TIME_OF_DAY", rng)


def price(rng: random.Random) -> str:
    """Return an amount: ``800 rupees``, ``Rs. 1,200``, ``₹950``, ``1500``."""
    amount = rng.choice((rng.randint(2, 60) * 50, rng.randint(2, 30) * 100, rng.randint(99, 4999)))
    shown = rng.choice((str(amount), str(amount), f"{amount:,}"))
    return rng.choice(
        (
            shown,
            shown,
            f"{shown} rupees",
            f"{shown} rupees",
            f"{shown} rs",
            f"{shown}rs",
            f"Rs {shown}",
            f"Rs. {shown}",
            f"Rs.{shown}",
            f"₹{shown}",
            f"₹ {shown}",
            f"{shown} INR",
            f"INR {shown}",
            f"{shown} bucks",
            f"{shown}/-",
            f"{pick('NUMBER', rng)} {rng.choice(('hundred', 'thousand'))} rupees",
            f"{rng.choice(('1', '2', '3', '1.5', '2.5'))}k",
            f"{shown} rupaye",
        )
    )


def passengers(rng: random.Random) -> str:
    """Return how many travel: ``2``, ``three``."""
    kind = rng.random()
    if kind < 0.60:
        return str(rng.choice((1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 45)))
    return rng.choice(_VALUES["NUMBER"][:8])


def bus_type(rng: random.Random) -> str:
    """Return a kind of bus: ``AC``, ``Non-AC``, ``Volvo multi-axle``."""
    return pick("BUS_TYPE", rng)


def seat_type(rng: random.Random) -> str:
    """Return a kind of seat: ``sleeper``, ``window``, ``lower berth``."""
    return pick("SEAT_TYPE", rng)
