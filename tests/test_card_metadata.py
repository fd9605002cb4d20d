"""The front matter of a model card: what the source says of itself, and what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cards import COMMIT, FROM_HUB, card_of, colbert, front_matter_of, in_the_root, rewritten
from converted import tagger

for_each = pytest.mark.parametrize


def test_the_hub_is_told_the_library_that_finds_the_graphs() -> None:
    assert front_matter_of(card_of(tagger()))["library_name"] == "transformers.js"
    assert front_matter_of(card_of(in_the_root()))["library_name"] == "onnx"
    assert "transformers.js" not in card_of(in_the_root())
    assert front_matter_of(card_of(colbert()))["library_name"] == "onnx"


def test_the_sources_words_about_licence_and_language_are_kept_and_not_its_results(
    tmp_path: Path,
) -> None:
    card = rewritten(
        tmp_path,
        b"---\nlicense: apache-2.0\nlanguage: [en, no]\ndatasets: conll2003\nlibrary_name: x\n"
        b"pipeline_tag: y\ntags: [legal, pytorch, Transformers, 'arxiv:1', mteb, ONNX, 7]\n"
        b"widget: [{text: Hi}]\nmodel-index: [{name: m, results: []}]\n---\nSource's own text\n",
        source=FROM_HUB,
    )
    assert front_matter_of(card) == {
        "base_model": "org/model",
        "base_model_relation": "quantized",
        "datasets": "conll2003",
        "language": ["en", "no"],
        "library_name": "transformers.js",
        "license": "apache-2.0",
        "pipeline_tag": "token-classification",
        "tags": ["onnx", "retort", "named-entity-recognition", "legal"],
    }
    assert f"[org/model](https://huggingface.co/org/model) at commit `{COMMIT}`" in card
    assert "Source's own text" not in card
    assert "names no licence" not in card


@for_each("language", ["no", "[no]", "false"])
def test_norwegian_is_a_language(language: str, tmp_path: Path) -> None:
    found = front_matter_of(rewritten(tmp_path, f"---\nlanguage: {language}\n---\n".encode()))[
        "language"
    ]
    assert found in ("no", ["no"])


def test_an_unknown_licence_is_left_out_and_said_to_be_unknown(
    tmp_path: Path,
) -> None:
    card = rewritten(tmp_path, b"---\nlicense: null\n---\n")
    assert "license" not in front_matter_of(card)
    assert "The source names no licence: ask its authors" in card


def test_a_licence_that_only_a_file_tells_is_pointed_at() -> None:
    assert "The source's licence is in `license.txt`." in card_of(tagger())


@for_each(
    ("link", "expected"),
    [
        ("LICENSE.md", f"https://huggingface.co/org/model/blob/{COMMIT}/LICENSE.md"),
        ("https://example.org/terms", "https://example.org/terms"),
        ("config.json", "config.json"),
    ],
)
def test_the_link_to_a_licence_of_ones_own_still_leads_there(
    link: str, expected: str, tmp_path: Path
) -> None:
    said = f"---\nlicense: other\nlicense_name: gemma\nlicense_link: {link}\n---\n"
    found = front_matter_of(rewritten(tmp_path, said.encode(), source=FROM_HUB))
    assert (found["license_name"], found["license_link"]) == ("gemma", expected)


@for_each(
    ("said", "expected"),
    [
        ("org/base", "org/base"),
        ("[org/base, org/other, 3]", ["org/base", "org/other"]),
        ("/home/me/base", None),
        ("./base", None),
        ("a/b/checkpoint-500", None),
    ],
)
def test_a_local_source_passes_on_its_own_base_model_but_no_path(
    said: str, expected: object, tmp_path: Path
) -> None:
    card = rewritten(tmp_path, f"---\nbase_model: {said}\n---\n".encode())
    assert front_matter_of(card).get("base_model") == expected
    assert "base_model_relation" not in front_matter_of(card)
    assert "the local checkpoint `tagger`" in card


def test_a_conversion_in_full_precision_is_no_quantized_model(tmp_path: Path) -> None:
    files = tagger().json("conversion.json")["files"]
    full = {name: told for name, told in files.items() if told["precision"] != "QInt8"}
    card = rewritten(tmp_path, source=FROM_HUB, files=full, links={})
    assert {told["precision"] for told in full.values()} == {"fp32", "Float16"}
    assert "base_model_relation" not in front_matter_of(card)
    assert front_matter_of(card)["base_model"] == "org/model"


@for_each(
    "readme",
    [
        b"---\nlicense: [\n---\n",
        b"---\n- license\n---\n",
        b"---\nlicense: \xff\n---\n",
        b"---\n\tlicense: mit\n---\n",
        b"---\nlicense: " + 1000 * b"[" + b"\n---\n",
        b"---\nlicense: *unknown\n---\n",
    ],
)
def test_broken_front_matter_is_a_warning_and_no_reason_to_stop(
    readme: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = rewritten(tmp_path, readme)
    assert "license" not in front_matter_of(card)
    (message,) = caplog.messages
    assert "left out of the new card" in message
    assert message.isprintable()


@for_each(
    "readme", [b"", b"# Only words\n", b"---\n---\n# Empty\n", b"---\nlicense: [{a: 1}]\n---\n"]
)
def test_a_source_that_tells_nothing_is_no_warning(
    readme: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "The source names no licence" in rewritten(tmp_path, readme)
    assert not caplog.messages
