"""LoRA adapters are refused by the name of their base, with the lines that merge them."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import pytest
from checkpoint_bytes import CONFIG, TOKENIZER, tensors

from retort.arguments import ConversionArguments
from retort.errors import InputError
from retort.stages.resolve import resolve

BASE = "Qwen/Qwen3-Embedding-0.6B"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def adapter(folder: Path, **settings: object) -> Path:
    """Write what peft saves: an adapter's configuration and weights, and no model."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(tensors())
    return folder


def with_tokenizer(folder: Path) -> Path:
    for name, content in TOKENIZER.items():
        (folder / name).write_bytes(content)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        resolve(ConversionArguments(model_id=str(folder)))
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def code_of(message: str) -> str:
    """Return the code of the command that a message ends with, which must be Python's."""
    command = shlex.split(message[message.index("python -c") :])
    assert command[:2] == ["python", "-c"]
    (code,) = command[2:]
    ast.parse(code)
    return code


def test_an_adapter_is_refused_with_its_base_and_the_command_that_merges_it(tmp_path: Path) -> None:
    folder = with_tokenizer(adapter(tmp_path / "mine"))
    message = refusal(folder)
    assert message.startswith(f"{folder}: a LoRA adapter of {BASE} without full weights")
    assert code_of(message).split("; ") == [
        "import shutil",
        "from peft import PeftModel",
        "from transformers import AutoModel as Base",
        f'base = Base.from_pretrained("{BASE}")',
        f'model = PeftModel.from_pretrained(base, "{folder}")',
        f'shutil.copytree("{folder}", "mine-merged", ignore=shutil.ignore_patterns("adapter_*"))',
        'model.merge_and_unload().save_pretrained("mine-merged")',
    ]


def test_where_the_adapter_has_no_tokenizer_the_base_s_is_taken(tmp_path: Path) -> None:
    last = code_of(refusal(adapter(tmp_path / "mine"))).rpartition("; ")[2]
    assert last == f'AutoTokenizer.from_pretrained("{BASE}").save_pretrained("mine-merged")'


def test_a_configuration_beside_the_adapter_makes_no_model_of_it(tmp_path: Path) -> None:
    folder = with_tokenizer(adapter(tmp_path / "mine"))
    (folder / "config.json").write_bytes(CONFIG["config.json"])
    assert f"a LoRA adapter of {BASE}" in refusal(folder)


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_a_sentence_transformers_folder_keeps_its_modules(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    with_tokenizer(adapter(folder / place))
    modules = [{**MODULES[0], "path": place}, MODULES[1]]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}", encoding="utf-8")
    message = refusal(folder)
    assert message.startswith(f"{folder / place}: a LoRA adapter of {BASE}")
    code = code_of(message)
    assert f'shutil.copytree("{folder}", "mine-merged"' in code
    assert f'save_pretrained("{Path("mine-merged") / place}")' in code
    assert f'PeftModel.from_pretrained(base, "{folder / place}")' in code


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"task_type": "SEQ_CLS"}, "from transformers import AutoModelForSequenceClassification"),
        ({"task_type": "TOKEN_CLS"}, "from transformers import AutoModelForTokenClassification"),
        (
            {"auto_mapping": {"parent_library": "a.modeling", "base_model_class": "ColQwen2"}},
            "from a.modeling import ColQwen2 as Base",
        ),
        (
            {"auto_mapping": {"parent_library": "os; import x", "base_model_class": "Y"}},
            "from transformers import AutoModel as Base",
        ),
    ],
)
def test_the_base_is_loaded_as_what_the_adapter_was_trained_on(
    settings: dict[str, object], line: str, tmp_path: Path
) -> None:
    assert line in code_of(refusal(adapter(tmp_path / "mine", **settings)))


def test_an_adapter_of_nothing_is_told_too(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "mine", base_model_name_or_path=None)
    assert "names no base model" in refusal(folder)


def test_names_cannot_leave_their_quotes(tmp_path: Path) -> None:
    hostile = "a'); import os; os.system('x') #\""
    code = code_of(refusal(adapter(tmp_path / "mine", base_model_name_or_path=hostile)))
    strings = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    assert hostile in strings


def test_full_weights_beside_an_adapter_are_converted_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_tokenizer(adapter(tmp_path / "mine"))
    (folder / "config.json").write_bytes(CONFIG["config.json"])
    (folder / "model.safetensors").write_bytes(tensors())
    resolve(ConversionArguments(model_id=str(folder)))
    assert "there are full weights beside it" in caplog.text
