"""Local checkpoints: shards, modules, pickles and code, and the permissions they need."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_bytes import (
    BERT,
    CONFIG,
    TOKENIZER,
    encoded,
    sentence_transformers,
    sharded,
    tensors,
    write,
)
from local_models import POINTER, refusal, resolved, torch_file

DENSE = "sentence_transformers.models.Dense"
CUT = BERT["model.safetensors"][:-100]


def test_shards_are_checked_one_by_one(tmp_path: Path) -> None:
    whole = sharded()
    second = "model-00002-of-00002.safetensors"
    assert resolved(write(tmp_path / "whole", whole)).name == "whole"
    missing = {name: content for name, content in whole.items() if name != second}
    cut = {**whole, second: whole[second][:-1]}
    other = {**whole, second: tensors("another")}
    away = {**whole, "model.safetensors.index.json": encoded({"weight_map": {"a": "../b"}})}
    for files, problem in (
        (missing, f"{second}: missing"),
        (cut, f"{second}: truncated"),
        (other, f"{second}: lacks layer.2"),
        (away, "index.json: shard '../b'"),
    ):
        folder = tmp_path / problem.split()[1]
        assert problem in refusal(write(folder, files))


def test_the_backbone_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", sentence_transformers("0_Transformer"))
    checkpoint = resolved(folder)
    assert checkpoint.model_type == "bert"
    assert checkpoint.subfolder == "0_Transformer"
    assert checkpoint.backbone == folder.resolve() / "0_Transformer"
    (folder / "0_Transformer" / "model.safetensors").write_bytes(CUT)
    assert "0_Transformer/model.safetensors: truncated" in refusal(folder)


def test_a_module_without_its_files_is_refused_but_normalize_has_none(tmp_path: Path) -> None:
    normalize = sentence_transformers(Normalize="sentence_transformers.models.Normalize")
    assert resolved(write(tmp_path / "normalize", normalize)).name == "normalize"
    assert "2_Dense: no files" in refusal(
        write(tmp_path / "dense", sentence_transformers(Dense=DENSE))
    )


def test_a_module_path_cannot_lead_out_of_the_checkpoint(tmp_path: Path) -> None:
    for number, path in enumerate(("../other", "/etc", "1_Pooling/../..", "..\\x")):
        modules = encoded([{"type": DENSE, "path": path}])
        folder = write(tmp_path / str(number), {**BERT, "modules.json": modules})
        assert "leads out of the checkpoint" in refusal(folder)


def test_pickle_weights_need_their_flag_and_the_message_says_why(tmp_path: Path) -> None:
    pickles = {**CONFIG, **TOKENIZER, "pytorch_model.bin": torch_file()}
    folder = write(tmp_path / "model", pickles)
    message = refusal(folder)
    assert "pytorch_model.bin" in message
    assert "--allow_pickle" in message
    assert "run code" in message
    assert resolved(folder, allow_pickle=True).allow_pickle


def test_pickle_shards_and_pickled_modules_need_the_flag_too(tmp_path: Path) -> None:
    shards = {
        name: torch_file() if name.endswith(".bin") else content
        for name, content in sharded("pytorch_model", "bin").items()
    }
    dense = {"2_Dense/config.json": b"{}", "2_Dense/pytorch_model.bin": torch_file()}
    for name, files in (
        ("shards", shards),
        ("dense", {**sentence_transformers(Dense=DENSE), **dense}),
    ):
        folder = write(tmp_path / name, files)
        assert "--allow_pickle" in refusal(folder)
        assert resolved(folder, allow_pickle=True).name == name


def test_safetensors_are_taken_where_there_are_both(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {**BERT, "pytorch_model.bin": b"never looked at"})
    assert not resolved(folder).allow_pickle


def test_a_damaged_pickle_is_refused_even_with_the_flag(tmp_path: Path) -> None:
    for name, content in (("cut", torch_file()[:-20]), ("empty", b""), ("pointer", POINTER)):
        files = {**CONFIG, **TOKENIZER, "pytorch_model.bin": content}
        assert "pytorch_model.bin" in refusal(write(tmp_path / name, files), allow_pickle=True)


def test_without_weights_none_are_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {**CONFIG, **TOKENIZER})
    assert resolved(folder, with_weights=False).model_type == "bert"


def config(model_type: str, architecture: str, **auto_map: str) -> dict[str, bytes]:
    content = {"model_type": model_type, "architectures": [architecture], "auto_map": auto_map}
    return {**BERT, "config.json": encoded(content)}


NEEDS_CODE = {
    "an unknown architecture": config("nomic_bert", "NomicBertModel", AutoModel="m.NomicBertModel"),
    "a known type with another network": config("bert", "BertModel", AutoModel="m.JinaBertModel"),
    "code of another repository": config("bert", "BertModel", AutoConfig="a/b--m.FlashConfig"),
    "a tokenizer": {
        **BERT,
        "tokenizer_config.json": encoded({"auto_map": {"AutoTokenizer": ["t.MyTokenizer", None]}}),
    },
    "a module": sentence_transformers(Custom="custom_st.Pooling") | {"2_Custom/config.json": b"{}"},
}


@pytest.mark.parametrize("kind", NEEDS_CODE)
def test_a_checkpoint_that_needs_its_own_code_needs_the_flag(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", NEEDS_CODE[kind])
    message = refusal(folder)
    assert str(folder) in message
    assert "--trust_remote_code" in message
    assert resolved(folder, trust_remote_code=True).trust_remote_code


def test_code_for_an_architecture_that_transformers_has_is_not_needed(tmp_path: Path) -> None:
    files = config("bert", "BertModel", AutoConfig="c.BertConfig", AutoModel="m.BertModel")
    assert not resolved(write(tmp_path / "model", files)).trust_remote_code


def test_modules_of_pylate_are_not_taken_for_code_of_the_checkpoint(tmp_path: Path) -> None:
    files = sentence_transformers(Dense="pylate.models.Dense.Dense")
    dense = {"2_Dense/config.json": b"{}", "2_Dense/model.safetensors": tensors("linear.weight")}
    assert resolved(write(tmp_path / "model", {**files, **dense})).name == "model"
