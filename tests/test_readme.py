"""The README, .ci/run, requirements.txt and pyproject.toml say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import convert
from onnx_configs import families
from retort.arguments import PRECISIONS
from retort.cli import VERBS

ROOT = Path(convert.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return the text under a heading, up to the next heading of its level."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_ci_runs_the_two_commands_of_the_readme_verbatim() -> None:
    commands = re.findall(r"```bash\n(.+)\n```", section("Two commands"))
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) == 2
    for command in commands:
        assert f"run '{command}'\n" in script


def test_every_pin_lies_in_the_range_of_pyproject_and_every_range_has_a_pin() -> None:
    block = PYPROJECT.split("\ndependencies = [")[1].split("\n]")[0]
    ranges = {r.name: r for r in map(Requirement, re.findall(r'"([^"]+)"', block))}
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = {r.name: r for r in map(Requirement, filter(lambda x: x[:1] != "#", lines))}
    assert pins.keys() == ranges.keys()
    for name, pin in pins.items():
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert ranges[name].specifier.contains(specifier.version), name
        assert pin.extras == ranges[name].extras, name


@pytest.mark.parametrize("name", sorted(families()))
def test_every_family_has_its_row(name: str) -> None:
    assert f"| `{name}` |" in section("Families")


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_has_its_row(name: str) -> None:
    assert f"| `{name}` |" in section("Precisions")


def test_every_option_that_the_readme_names_exists() -> None:
    command = [sys.executable, str(ROOT / "convert.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = section("Coming from another tool").split("\n### A script")[0]
    of_verbs = {flag for verb in VERBS.values() for flags in verb.options for flag in flags.split()}
    for option in set(re.findall(r"`(--[a-z_]+)", README.replace(theirs, ""))) - of_verbs:
        assert f"{option} " in shown or f"{option}," in shown or f"{option}]" in shown, option


def test_the_help_of_convert_and_the_readme_agree_on_exit_codes() -> None:
    command = [sys.executable, str(ROOT / "convert.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    codes = re.findall(r"^\| (\d+) \|", section("Use"), flags=re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "130"]
    ending = " ".join(shown.split()).split("Exit codes:")[1]
    assert all(code in ending for code in codes)
