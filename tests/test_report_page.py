"""``report.html``: one page, whole in itself, for any reader and any theme."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from reports import LAYERS, ladder, report

from retort.page.report_page import report_page, write_page

NAME = "org/model <&>"
MOST_BYTES = 500_000
EMPTY = ("br", "link", "meta")


class Page(HTMLParser):
    """What a page consists of, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it, and that it is open."""
        self.elements.append((tag, dict(attrs)))
        self.open += [] if tag in EMPTY else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that it was the last that was opened."""
        assert self.open.pop() == tag

    def values(self, *names: str) -> list[str]:
        """Return the values of attributes."""
        return [told[name] or "" for _, told in self.elements for name in names if name in told]


def full_page() -> str:
    return report_page(NAME, report(ladder(LAYERS), replace(ladder(), precision="QUInt8")))


def test_a_page_needs_nothing_beside_it_and_is_small() -> None:
    text = full_page()
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "image"} & {tag for tag, _ in page.elements}
    assert all(value.startswith("#") for value in page.values("href", "src", "xlink:href"))
    outside = re.findall(r"url\((?!#)|@import|@font-face|https?://(?!www\.w3\.org)", text)
    assert outside == []
    assert len(text.encode()) < MOST_BYTES


def test_the_same_report_gives_the_same_bytes_without_a_date() -> None:
    assert full_page() == full_page()
    script = "import sys; from test_report_page import full_page; sys.stdout.write(full_page())"
    command = [sys.executable, "-c", script]
    place = Path(__file__).parent
    other = subprocess.run(command, cwd=place, capture_output=True, check=True)
    assert other.stdout.decode() == full_page()
    assert "<metadata>" not in full_page()


def test_identifiers_are_those_of_one_element_each_and_all_references_lead_to_one() -> None:
    text = full_page()
    page = Page(text)
    counts = Counter(page.values("id"))
    assert counts
    assert set(counts.values()) == {1}
    references = re.findall(r"url\(#([^)]*)\)", text)
    references += [value[1:] for value in page.values("href", "xlink:href")]
    assert references
    assert set(references) <= counts.keys()


def test_plots_take_the_page_s_colours_and_fonts_and_tell_their_figures_in_words() -> None:
    text = full_page()
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 3 + 2 * 2 + 1  # of the files, of each ladder, of the layers
    for plot in plots:
        assert not re.findall(r"#[0-9a-f]{6}|font-family|font:", plot)
        assert "var(--ink)" in plot
        assert "<text" in plot  # text, not outlines of letters
    labels = [told["aria-label"] for tag, told in Page(text).elements if tag == "svg"]
    assert all(labels)
    assert "model_quantized: mean 0.99" in str(labels[0])
    assert "prefers-color-scheme: dark" in text


def test_the_name_is_told_as_it_is_and_all_figures_stand_in_tables() -> None:
    text = full_page()
    assert "<h1>org/model &lt;&amp;&gt;</h1>" in text
    assert 'scope="row" class="words">model_quantized</th>' in text
    for cell in ("22.8", "2.65×", "1.62×", "batch 8, left padding", "Attention 2", "kept"):
        assert f">{cell}</td>" in text
    assert text.count(">passed</td>") == text.count(">failed</td>") == 2


def test_what_there_is_no_data_for_is_not_drawn() -> None:
    assert report_page(NAME, report()).count("<svg") == 3
    assert "Error by layer" not in report_page(NAME, report(ladder()))
    assert "Error by layer" in report_page(NAME, report(ladder(LAYERS)))
    (row, *_) = report().files
    unknown = replace(row, speed=(math.nan,), scores=(), batch_mates=math.nan)
    text = report_page(NAME, replace(report(), files=(unknown,)))
    assert text.count("<svg") == 1
    assert ">–</td>" in text


def test_a_page_shows_what_is_not_finite_without_drawing_it(tmp_path: Path) -> None:
    (row, *_) = report().files
    broken = replace(row, fidelity_mean=math.nan, fidelity_min=math.nan, scores=(math.nan, 1.0))
    write_page(tmp_path / "report.html", NAME, replace(report(), files=(broken,)))
    assert ">–</td>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_matplotlib_is_imported_only_when_a_page_is_drawn() -> None:
    script = (
        "import sys, convert, retort.cli, retort.page.report_page, retort.record; "
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
