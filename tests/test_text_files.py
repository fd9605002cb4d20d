"""The user's own texts: a text on each line, JSON lines, or a folder of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from retort.errors import InputError
from retort.recipes.trials import trial_texts
from retort.text_files import read_texts


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_text_file_has_a_text_on_each_line_and_empty_lines_are_none(tmp_path: Path) -> None:
    file = written(tmp_path / "texts", "\ufeffone text\r\n\n  \nnäxt\n")
    assert read_texts(file) == ("one text", "näxt")


def test_json_lines_have_it_in_a_field_with_any_line_separator_inside(tmp_path: Path) -> None:
    file = written(tmp_path / "t.jsonl", '{"text": "a\u2028b", "id": 1}\n\n{"text": "c"}\n')
    assert read_texts(file) == ("a\u2028b", "c")
    other = written(tmp_path / "q.jsonl", '{"query": "who?"}')
    assert read_texts(other, "query") == ("who?",)


def test_a_folder_has_a_text_in_each_txt_file_in_the_order_of_their_names(tmp_path: Path) -> None:
    written(tmp_path / "b.txt", "second\nof two lines\n")
    written(tmp_path / "a.txt", "first\n")
    written(tmp_path / "c.md", "no text")
    assert read_texts(tmp_path) == ("first", "second\nof two lines")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "no text in it"),
        ("a.txt", b"caf\xe9", r"not UTF-8 \(byte 3\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"query": "a", "id": 2}', r"line 1: has no text in .*'text' .*query, id"),
        ("a.jsonl", b'["a"]', "has no text in the field"),
        ("a.jsonl", b'{"text": 1}', "has no text in the field"),
    ],
)
def test_what_is_no_file_of_texts_is_refused_by_its_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read_texts(written(tmp_path / name, content))
    assert name in str(refused.value)


def test_the_option_that_names_the_field_is_the_commands_own(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", b'{"query": "a"}\n{"query": "b"}')
    with pytest.raises(InputError, match="--text_field"):
        read_texts(file)
    with pytest.raises(InputError, match="--calibration_field"):
        trial_texts(str(file), "text", 10)
    assert trial_texts(str(file), "query", 10) == (("b",), ("a",))


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.txt: cannot be read"):
        read_texts(tmp_path / "missing.txt")
    with pytest.raises(InputError, match=r"no \.txt file with a text in it"):
        read_texts(tmp_path)
