"""Make labelled Indian bus-ticket queries: ``python generate.py --split held_out --count 5``."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import names
import values
from wording import read_sections

SPLITS = ("train", "held_out")
LABELS = (
    "SRC",
    "DEST",
    "DATE",
    "TIME",
    "BUS_TYPE",
    "SEAT_TYPE",
    "OPERATOR",
    "PRICE",
    "PASSENGERS",
)
NAME_LABELS = frozenset({"SRC", "DEST", "OPERATOR"})
_HELD_OUT = read_sections("held_out")
_FILLERS = read_sections("fillers")["WORD"]


@dataclass(frozen=True)
class Entity:
    """A labelled piece of a query: characters ``start`` to ``end`` (exclusive)."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Query:
    """A labelled query, and the sentence with slots that it was made from."""

    text: str
    entities: tuple[Entity, ...]
    template: str

    def surface(self, entity: Entity) -> str:
        """Return the text of an entity."""
        return self.text[entity.start : entity.end]


def _place(rng: random.Random) -> str:
    return names.pick("LANDMARK", rng) if rng.random() < 0.3 else names.training_city(rng)


def _filler(rng: random.Random) -> str:
    return rng.choice(_FILLERS)


def _with_fillers(text: str, rate: float, rng: random.Random) -> str:
    """Put everyday words between words, so that those the grammar lacks do no harm."""
    return re.sub(" ", lambda _: f" {_filler(rng)} " if rng.random() < rate else " ", text)


_SHARED_SLOTS: dict[str, Callable[[random.Random], str]] = {
    "DATE": values.date,
    "TIME": values.time,
    "TIME_OF_DAY": values.part_of_day,
    "PRICE": values.price,
    "PASSENGERS": values.passengers,
    "BUS_TYPE": values.bus_type,
    "SEAT_TYPE": values.seat_type,
}
_TRAINING_SLOTS = _SHARED_SLOTS | {
    "SRC": names.training_city,
    "DEST": names.training_city,
    "OPERATOR": names.training_operator,
    "SRC!": lambda rng: names.pick("FAMOUS_CITY", rng),
    "DEST!": lambda rng: names.pick("FAMOUS_CITY", rng),
    "OPERATOR!": lambda rng: names.pick("FAMOUS_OPERATOR", rng),
    "PERSON": names.person,
    "PLACE": _place,
    "WORD": _filler,
    "NUMBER": lambda rng: str(rng.randint(10, 10 ** rng.randint(2, 10))),
}
_HELD_OUT_SLOTS = _SHARED_SLOTS | {
    "SRC": lambda rng: rng.choice(_HELD_OUT["CITY"]),
    "DEST": lambda rng: rng.choice(_HELD_OUT["CITY"]),
    "OPERATOR": lambda rng: rng.choice(_HELD_OUT["OPERATOR"]),
}
_LABEL_OF_SLOT = {label: label for label in LABELS} | {"TIME_OF_DAY": "TIME"}


def canonical(text: str) -> str:
    """Return the text as two texts are compared: lower-case words and slots, nothing else."""
    return " ".join(re.findall(r"\w+", text.lower()))


_RULES = read_sections("grammar")
_HELD_OUT_TEMPLATES = frozenset(canonical(template) for template in _HELD_OUT["TEMPLATE"])
_HELD_OUT_NAMES = frozenset(canonical(name) for name in _HELD_OUT["CITY"] + _HELD_OUT["OPERATOR"])
_TRAINING_NAMES = frozenset(canonical(name) for name in names.REAL_NAMES)


def expand(rng: random.Random) -> str:
    """Return a sentence of the training grammar with only its slots left open.

    In a rule ``<NAME>`` stands for one of that rule's lines, ``(a|b|)`` for one of its parts and
    ``{SLOT}`` for a value; ``{SLOT!}`` takes well-known names only.
    """
    text = "<QUERY>"
    while "<" in text or "(" in text:
        text = re.sub(r"\(([^()]*)\)", lambda found: rng.choice(found[1].split("|")), text)
        text = re.sub(r"<([A-Z]+)>", lambda found: rng.choice(_RULES[found[1]]), text, count=1)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r" ([,.;!])", r"\1", text).strip(" ,.;!")


def _misspell(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    dropped, doubled = word[:at] + word[at + 1 :], word[:at] + word[at : at + 1] + word[at:]
    replaced = word[:at] + rng.choice("aeioustnrlh") + word[at + 1 :]
    return rng.choice((swapped, dropped, doubled, replaced))


def _with_typos(text: str, rate: float, rng: random.Random) -> str:
    return re.sub(
        r"[A-Za-z]{5,}",
        lambda found: _misspell(found[0], rng) if rng.random() < rate else found[0],
        text,
    )


def _fill(
    template: str, slots: dict[str, Callable[[random.Random], str]], rng: random.Random
) -> Query:
    """Put a value into every slot; source and destination are never the same."""
    rate = 0.04 if rng.random() < 0.5 else 0.0
    text, entities, used = "", [], set()
    for part in re.split(r"(\{[A-Z_]+!?\})", template):
        if not part.startswith("{"):
            text += _with_typos(part, rate, rng)
            continue
        slot = part.strip("{}")
        value = slots[slot](rng)
        while value in used:
            value = slots[slot](rng)
        if slot.strip("!") in NAME_LABELS:
            used.add(value)
        start = len(text)
        text += _with_typos(value, rate, rng)
        if label := _LABEL_OF_SLOT.get(slot.strip("!")):
            entities.append(Entity(start, len(text), label))
    return Query(text, tuple(entities), template)


def _styled(query: Query, rng: random.Random) -> Query:
    """Change the letters' case and add a last mark; no entity moves."""
    text = rng.choice((str, str, str.lower, str.lower, str.lower, str.title, str.upper))(query.text)
    if len(text) != len(query.text):
        text = query.text
    if text[:1].islower() and rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return Query(text + rng.choice(("", "", "", "", ".", "?", "!")), query.entities, query.template)


def phrases(text: str) -> set[str]:
    """Return every run of one to four words of a text, as ``canonical`` writes it."""
    words = canonical(text).split()
    return {
        " ".join(words[start : start + size]) for size in range(1, 5) for start in range(len(words))
    }


def _leaks(query: Query, templates: frozenset[str], taken_names: frozenset[str]) -> bool:
    """Whether the query has a template or, anywhere in its text, a name of the other split."""
    taken = not taken_names.isdisjoint(phrases(query.text))
    return taken or canonical(query.template) in templates


def _runs_together(query: Query) -> bool:
    """Whether two entities of one label stand side by side, so that no reader could part them."""
    return any(
        first.label == second.label and not query.text[first.end : second.start].strip()
        for first, second in pairwise(query.entities)
    )


def make_query(split: str, rng: random.Random) -> Query:
    """Return one labelled query of the split ``train`` or ``held_out``."""
    while True:
        if split == "train":
            filler_rate = 0.12 if rng.random() < 0.25 else 0.0
            template = expand(rng)
            query = _fill(_with_fillers(template, filler_rate, rng), _TRAINING_SLOTS, rng)
            query = replace(query, template=template)
            leaks = _leaks(query, _HELD_OUT_TEMPLATES, _HELD_OUT_NAMES)
        else:
            query = _fill(rng.choice(_HELD_OUT["TEMPLATE"]), _HELD_OUT_SLOTS, rng)
            leaks = _leaks(query, frozenset(), _TRAINING_NAMES)
        if not leaks and not _runs_together(query):
            return _styled(query, rng)


def make_queries(split: str, count: int, seed: int) -> list[Query]:
    """Return ``count`` queries of the split; the same seed gives the same queries."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    rng = random.Random(f"{split} {seed}")
    return [make_query(split, rng) for _ in range(count)]


def main() -> None:
    """Print labelled queries as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for query in make_queries(arguments.split, arguments.count, arguments.seed):
        print(json.dumps(asdict(query), ensure_ascii=False))


if __name__ == "__main__":
    main()
