"""What a family tells for the model card: its place on the Hub, and code for each consumer.

The code is for readers to copy, so it is whole and short. It names the folder ``MODEL``, where an
uploaded card has the repository's id.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL = "path/to/this-folder"


@dataclass(frozen=True)
class GraphFile:
    """One graph of a finished folder.

    Attributes:
        name: Its name in the folder.
        precision: ``fp32`` or a value of ``--quantize``.
        inputs: The names of its inputs.
        outputs: The names of its outputs.
    """

    name: str
    precision: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """How one consumer runs the folder.

    Attributes:
        consumer: Its name, a heading.
        language: The language of the code.
        code: A program that runs as it stands, with ``MODEL`` where it names the folder.
        note: What to know before, in Markdown; empty if nothing.
    """

    consumer: str
    language: str
    code: str
    note: str = ""


@dataclass(frozen=True)
class CardFacts:
    """What a family tells for the card of a folder.

    Attributes:
        pipeline_tag: The task, as the Hub calls it.
        library_name: The library that the Hub shows code for. The default is none that it knows:
            without a name it would take the files for those of transformers.
        tags: More words to be found by.
        usages: How consumers run the folder, those that can.
    """

    pipeline_tag: str
    library_name: str = "onnx"
    tags: tuple[str, ...] = ()
    usages: tuple[Usage, ...] = ()
