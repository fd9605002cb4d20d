"""What the texts that ship with Retort must cover."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections import Counter

from retort.texts import calibration_texts, pieces, validation_texts

TEXTS = [sample.text for sample in validation_texts()]
REGISTERS = {sample.register for sample in validation_texts()}
LANGUAGES = Counter(sample.language for sample in validation_texts())
CALIBRATION_TEXTS = [sample.text for sample in calibration_texts()]
CALIBRATION_LANGUAGES = Counter(sample.language for sample in calibration_texts())


def word_counts(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_there_are_at_least_120_texts_and_none_twice() -> None:
    assert len(TEXTS) >= 120
    assert len(set(TEXTS)) == len(TEXTS)


def test_they_cover_the_languages_that_multilingual_models_are_used_for() -> None:
    expected = [
        "en",
        "de",
        "fr",
        "es",
        "pt",
        "it",
        "pl",
        "tr",
        "ru",
        "el",
        "ar",
        "he",
        "hi",
        "th",
        "zh",
        "ja",
        "ko",
        "vi",
    ]
    assert set(expected) <= set(LANGUAGES)
    assert all(LANGUAGES[language] >= 2 for language in expected)


def test_english_is_the_largest_language_but_not_the_majority() -> None:
    assert LANGUAGES.most_common(1)[0][0] == "en"
    assert 0.35 < LANGUAGES["en"] / len(TEXTS) < 0.5


def test_they_cover_what_people_search_for_and_search_in() -> None:
    prose = {"news", "chat", "legal", "medical", "scientific abstract", "poetry", "e-mail"}
    queries = {"question", "search query", "travel query", "product title"}
    machine = {"log line", "sql", "python", "rust", "javascript", "json", "html", "url"}
    figures = {"numbers", "prices", "dates", "maths"}
    assert prose | queries | machine | figures <= REGISTERS


def test_lengths_run_from_one_character_to_a_whole_story() -> None:
    counts = word_counts(TEXTS)
    assert sum(len(text) == 1 for text in TEXTS) >= 3
    assert counts.count(1) >= 5
    assert sum(60 <= count <= 150 for count in counts) >= 6
    assert sum(200 <= count <= 300 for count in counts) >= 3
    assert max(counts) >= 700


def test_one_text_is_empty_and_one_is_only_whitespace() -> None:
    assert "" in TEXTS
    assert any(text and not text.strip() for text in TEXTS)


def test_there_are_joined_emoji_and_flags() -> None:
    zero_width_joiner = "\u200d"
    assert any(f"\U0001f468{zero_width_joiner}\U0001f469" in text for text in TEXTS)
    assert any("\U0001f1f5\U0001f1f9" in text for text in TEXTS)


def test_there_are_texts_that_unicode_normalization_would_change() -> None:
    assert any(unicodedata.normalize("NFC", text) != text for text in TEXTS)
    assert any(unicodedata.normalize("NFKC", text) != text for text in TEXTS)


def test_there_are_tabs_newlines_and_all_capitals() -> None:
    assert any("\t" in text and "\n" in text and text.strip() for text in TEXTS)
    assert any(text.isupper() and len(text.split()) > 5 for text in TEXTS)


def test_one_text_mixes_at_least_five_scripts() -> None:
    scripts = [
        {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}
        for text in TEXTS
    ]
    assert max(len(names) for names in scripts) >= 5


def test_one_text_holds_the_special_tokens_of_the_tokenizers() -> None:
    assert any("[CLS]" in text and "<s>" in text and "<mask>" in text for text in TEXTS)


def test_there_are_at_least_300_calibration_texts_and_none_twice() -> None:
    assert len(CALIBRATION_TEXTS) >= 300
    assert len(set(CALIBRATION_TEXTS)) == len(CALIBRATION_TEXTS)
    assert all(text.strip() for text in CALIBRATION_TEXTS)
    assert all(sample.language and sample.register for sample in calibration_texts())


def test_no_calibration_text_is_a_validation_text_even_in_other_case_or_spacing() -> None:
    def plain(text: str) -> str:
        return " ".join(text.casefold().split())

    assert not {plain(text) for text in CALIBRATION_TEXTS} & {plain(text) for text in TEXTS}


def test_calibration_texts_are_mostly_english_but_in_every_language_of_validation() -> None:
    assert 0.5 < CALIBRATION_LANGUAGES["en"] / len(CALIBRATION_TEXTS) < 0.7
    assert set(LANGUAGES) <= set(CALIBRATION_LANGUAGES)


def test_calibration_texts_run_from_one_character_to_hundreds_of_words() -> None:
    counts = word_counts(CALIBRATION_TEXTS)
    assert sum(len(text) == 1 for text in CALIBRATION_TEXTS) >= 3
    assert sum(2 <= count <= 6 for count in counts) >= 60
    assert sum(60 <= count <= 150 for count in counts) >= 70
    assert sum(250 <= count <= 350 for count in counts) >= 3


def test_the_pieces_of_texts_are_their_clauses_of_two_words_or_more_each_once() -> None:
    texts = ("Who is it? It is me, of course.", "of course.", "one two three four. Yes.")
    assert pieces(texts, most_words=3) == ("Who is it?", "It is me,", "one two three")


def test_reading_them_does_not_import_torch() -> None:
    program = (
        "import sys; from retort.texts import calibration_texts, pieces, validation_texts; "
        "calibration_texts(), validation_texts(); print('torch' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "False"
