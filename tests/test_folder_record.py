"""What a converted folder tells about its own making: metadata_props and conversion.json."""

from __future__ import annotations

from importlib.metadata import version

import onnx
import pytest
from converted import (
    EVERY,
    LATE,
    SENTENCES,
    TAGGERS,
    TOKEN,
    Conversion,
    files_of,
    minilm,
    named_by_level,
    workshop,
)

from retort import __version__
from retort.artifact import graph_sha256

FAMILIES = {"embedding": SENTENCES, "token_classification": TAGGERS, "colbert": LATE}
COUNTED = ("Attention", "QAttention", "SkipLayerNormalization", "BiasGelu", "FastGelu")

for_each = pytest.mark.parametrize


def fused(model: onnx.ModelProto) -> dict[str, int]:
    operators = [node.op_type for node in model.graph.node]
    return {name: operators.count(name) for name in COUNTED if name in operators}


@for_each("conversion", EVERY)
def test_every_graph_tells_what_it_is_and_where_it_comes_from(conversion: Conversion) -> None:
    config = conversion().json("config.json")
    (family,) = [name for name, members in FAMILIES.items() if conversion in members]
    for name in conversion().graphs:
        told = {entry.key: entry.value for entry in conversion().graph(name).metadata_props}
        assert told == {
            "family": family,
            "model_type": config["model_type"],
            "num_heads": str(config.get("num_attention_heads") or config["n_heads"]),
            "hidden_size": str(config.get("hidden_size") or config["dim"]),
            "producer": "retort",
            "producer_version": __version__,
            "source": conversion().checkpoint.name,
            "commit": "",
        }


@for_each("conversion", EVERY)
def test_the_record_describes_the_very_bytes_of_every_graph(conversion: Conversion) -> None:
    files = conversion().json("conversion.json")["files"]
    for name, told in files.items():
        path, model = conversion().folder / name, conversion().graph(name)
        last = told["steps"][-1]
        assert (last["name"], last["settings"]["file"]) == ("place", name)
        assert last["sha256"] == graph_sha256(path)
        assert told["ir_version"] == model.ir_version
        assert told["opset"] == {o.domain: o.version for o in model.opset_import}[""]
        assert told["inputs"] == [value.name for value in model.graph.input]
        assert told["outputs"] == [value.name for value in model.graph.output]
        assert told["nodes"] >= len(model.graph.node)
        counted = {key: told["fused_operators"].get(key) for key in fused(model)}
        assert counted == fused(model)


@for_each("conversion", EVERY)
def test_the_record_names_every_graph_and_link_of_the_folder(conversion: Conversion) -> None:
    record = conversion().json("conversion.json")
    assert sorted([*record["files"], *record["links"]]) == conversion().graphs
    for name, source in record["links"].items():
        assert (conversion().folder / name).samefile(conversion().folder / source)


def test_the_record_tells_every_step_and_its_settings() -> None:
    files = minilm().json("conversion.json")["files"]
    steps = {name: [step["name"] for step in told["steps"]] for name, told in files.items()}
    assert steps["onnx/model.onnx"] == ["export", "place"]
    assert steps["onnx/model_opt1.onnx"] == ["export", "optimize", "place"]
    for name in ("onnx/model_quantized.onnx", "onnx/model_uint8.onnx", "onnx/model_fp16.onnx"):
        told = files[name]["steps"][-2]["settings"]
        made_of = {"portable graph": ["export"], "optimized graph": ["export", "optimize"]}
        assert steps[name] == [*made_of[told["from"]], "quantize", "place"]
    settings = files["onnx/model_quantized.onnx"]["steps"][-2]["settings"]
    assert (settings["precision"], settings["per_channel"]) == ("QInt8", True)
    assert (settings["target"], settings["reduce_range"]) == ("auto", False)


def test_a_file_named_after_a_level_records_that_level() -> None:
    for name, told in named_by_level().json("conversion.json")["files"].items():
        levels = [s["settings"]["level"] for s in told["steps"] if s["name"] == "optimize"]
        assert levels == ([] if name == "onnx/model.onnx" else [2]), name


def test_the_record_of_a_fused_graph_counts_what_was_fused() -> None:
    told = minilm().json("conversion.json")["files"]["onnx/model_opt1.onnx"]
    assert told["fused_operators"] == {"Attention": 6, "BiasGelu": 6, "SkipLayerNormalization": 12}


def test_the_record_tells_the_source_the_arguments_and_the_versions() -> None:
    record = minilm().json("conversion.json")
    assert record["source"] == {"model_id": "all-MiniLM-L6-v2", "commit": None, "from_hub": False}
    assert record["arguments"]["quantize"] == ["QInt8", "QUInt8", "Float16"]
    assert record["versions"]["retort"] == __version__
    for library in ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime"):
        assert record["versions"][library] == version(library)


def test_the_record_admits_that_nothing_was_validated() -> None:
    record = minilm().json("conversion.json")
    assert (record["validated"], record["validation"]) == (False, None)


@for_each("conversion", EVERY)
def test_no_file_holds_the_token_or_a_path_of_the_machine(conversion: Conversion) -> None:
    private = [TOKEN.encode(), str(workshop()).encode(), b".partial-"]
    for name in sorted(files_of(conversion().folder)):
        content = (conversion().folder / name).read_bytes()
        assert not [found for found in private if found in content], name
