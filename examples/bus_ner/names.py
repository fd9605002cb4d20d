"""City and operator names for training: real ones, and ones made of syllables."""

from __future__ import annotations

import random

from wording import read_sections

_NAMES = read_sections("names")
REAL_NAMES = tuple(
    name
    for section in ("FAMOUS_CITY", "CITY", "WORLD_CITY", "FAMOUS_OPERATOR", "OPERATOR")
    for name in _NAMES[section]
)


def pick(section: str, rng: random.Random) -> str:
    """Return one entry of a section of ``wording/names.txt``."""
    return rng.choice(_NAMES[section])


def _syllables(rng: random.Random) -> str:
    middles = "".join(rng.choices(_NAMES["SYLLABLE_MIDDLE"], k=rng.choice((0, 0, 1, 1, 1, 2))))
    return (pick("SYLLABLE_FIRST", rng) + middles + pick("SYLLABLE_LAST", rng)).capitalize()


def _letters(rng: random.Random) -> str:
    size = rng.randint(3, 9)
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=size)).capitalize()


def made_up_city(rng: random.Random) -> str:
    """Return a name that sounds like a town, of one word or, at times, of two."""
    kind = rng.random()
    if kind < 0.04:
        return _letters(rng)
    name = _syllables(rng)
    if kind < 0.08:
        return f"{pick('CITY_FIRST_WORD', rng)} {name}"
    if kind < 0.12:
        return f"{name} {pick('CITY_LAST_WORD', rng)}"
    return name


def _initials(rng: random.Random) -> str:
    return "".join(rng.choices("ABCDGHIJKLMNPRSTUVY", k=rng.choice((2, 3, 3, 3, 4))))


def made_up_operator(rng: random.Random) -> str:
    """Return a name such as ``KTR``, ``Majora Travels``, ``Golden Tours`` or ``HPSRTC``."""
    kind = rng.random()
    if kind < 0.15:
        return _initials(rng)
    if kind < 0.22:
        return "".join(rng.choices("ABCDGHJKMNPRSTUWZ", k=rng.choice((1, 2)))) + rng.choice(
            ("RTC", "SRTC", "STC")
        )
    stem = rng.choice(
        (_syllables(rng), _syllables(rng), pick("OPERATOR_FIRST_WORD", rng), _initials(rng))
    )
    if kind < 0.30:
        stem = f"{pick('OPERATOR_FIRST_WORD', rng)} {stem}"
    if kind < 0.55:
        return stem
    return f"{stem} {pick('OPERATOR_LAST_WORD', rng)}"


def person(rng: random.Random) -> str:
    """Return a first name: a real one or, half the time, a made-up one."""
    return pick("PERSON", rng) if rng.random() < 0.5 else _syllables(rng)


def training_city(rng: random.Random) -> str:
    """Return a city for a training sentence: famous, real or made up."""
    kind = rng.random()
    if kind < 0.10:
        return pick("FAMOUS_CITY", rng)
    if kind < 0.35:
        return pick("CITY", rng)
    if kind < 0.40:
        return pick("WORLD_CITY", rng)
    return made_up_city(rng)


def training_operator(rng: random.Random) -> str:
    """Return an operator for a training sentence: famous, real or made up."""
    kind = rng.random()
    if kind < 0.20:
        return pick("FAMOUS_OPERATOR", rng)
    if kind < 0.40:
        return pick("OPERATOR", rng)
    return made_up_operator(rng)
