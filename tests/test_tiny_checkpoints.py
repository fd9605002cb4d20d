"""What the tiny checkpoints must be like, so that tests on them can find real faults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny_checkpoints import (
    ARCHITECTURES,
    HIDDEN_SIZE,
    LABELS,
    POOLING_FLAGS,
    build_encoder,
    build_sentence_transformer,
    build_token_classifier,
)
from tiny_tokenizers import TOKENIZERS, tiny_tokenizer
from tiny_variants import as_bfloat16, as_pickle, with_remote_code
from torch.nn.functional import cosine_similarity, normalize
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    dynamic_module_utils,
)

from retort.texts import validation_texts

VISIBLE = 0.01
TEXTS = [sample.text for sample in validation_texts() if 20 < len(sample.text) < 200][:20]
# A causal model never sees padding on the right, so there its mask changes nothing.
CAUSAL_WITH_RIGHT_PADDING = {"llama", "mistral"}
WITH_TOKEN_TYPES = {"bert", "electra", "albert"}
WITHOUT_POSITION_IDS = {"distilbert", "deberta-v2"}


def inputs_of(folder: Path, texts: list[str] = TEXTS) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return dict(tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt"))


def pooled(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], mask: torch.Tensor
) -> torch.Tensor:
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def least_change(
    folder: Path, changed: Mapping[str, torch.Tensor], rows: torch.Tensor | None = None
) -> float:
    """Return how much the least affected text's vector changes with these inputs."""
    model = AutoModel.from_pretrained(folder)
    inputs = inputs_of(folder)
    mask = inputs["attention_mask"]
    difference = pooled(model, inputs, mask) - pooled(model, {**inputs, **changed}, mask)
    largest = difference.abs().amax(1)
    return float((largest if rows is None else largest[rows]).min())


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("tiny") / request.param, request.param)


def test_the_table_covers_the_architectures_that_retrieval_and_ner_use() -> None:
    encoders = {"bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "modernbert", "electra"}
    assert encoders | {"albert", "deberta-v2", "camembert", "qwen3", "mistral"} <= set(
        ARCHITECTURES
    )


def test_an_encoder_loads_with_the_auto_classes(encoder: Path) -> None:
    model = AutoModel.from_pretrained(encoder)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    assert model.config.model_type == encoder.name
    assert tokenizer.is_fast
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert (encoder / "model.safetensors").is_file()


def test_different_texts_have_clearly_different_vectors(encoder: Path) -> None:
    inputs = inputs_of(encoder)
    vectors = pooled(AutoModel.from_pretrained(encoder), inputs, inputs["attention_mask"])
    unit = normalize(vectors)
    others = ~torch.eye(len(TEXTS), dtype=torch.bool)
    assert float((unit @ unit.T)[others].mean()) < 0.85


def test_a_wrong_attention_mask_is_visible(encoder: Path) -> None:
    mask = inputs_of(encoder)["attention_mask"]
    is_padded = mask.sum(1) < mask.shape[1]
    change = least_change(encoder, {"attention_mask": torch.ones_like(mask)}, is_padded)
    assert is_padded.any()
    if encoder.name in CAUSAL_WITH_RIGHT_PADDING:
        assert change < VISIBLE
    else:
        assert change > VISIBLE


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - WITHOUT_POSITION_IDS))
def test_wrong_position_ids_are_visible(architecture: str, tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, architecture)
    ids = inputs_of(folder)["input_ids"]
    backwards = torch.arange(ids.shape[1]).flip(0).expand_as(ids)
    assert least_change(folder, {"position_ids": backwards}) > VISIBLE


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_order_of_the_words_is_visible(architecture: str, tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, architecture)
    model = AutoModel.from_pretrained(folder)
    inputs = inputs_of(folder, ["the dog saw a cat", "a cat saw the dog"])
    vectors = pooled(model, inputs, inputs["attention_mask"])
    assert float((vectors[0] - vectors[1]).abs().max()) > VISIBLE


@pytest.mark.parametrize("architecture", sorted(WITH_TOKEN_TYPES))
def test_wrong_token_types_are_visible(architecture: str, tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, architecture)
    types = inputs_of(folder)["token_type_ids"]
    assert least_change(folder, {"token_type_ids": 1 - types}) > VISIBLE


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    first, again, other = (
        load_file(build_encoder(tmp_path / str(index), "bert", seed=seed) / "model.safetensors")
        for index, seed in enumerate((1, 1, 2))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_a_tokenizer_gives_a_text_and_a_pair_their_special_tokens(name: str) -> None:
    tokenizer = tiny_tokenizer(name)
    specials = tokenizer.all_special_ids
    single = tokenizer("the bus")["input_ids"]
    pair = tokenizer("the bus", "the ship")
    assert {single[0], single[-1]} & set(specials)
    assert len(pair["input_ids"]) > len(single)
    assert list(pair) == list(TOKENIZERS[name].inputs)
    assert 1 in pair.get("token_type_ids", [1])


def test_a_qwen_tokenizer_ends_a_text_with_its_padding_token_and_pads_on_the_left() -> None:
    tokenizer = tiny_tokenizer("qwen3")
    short, long = tokenizer(["bus", "the bus to the harbour"], padding=True)["input_ids"]
    assert short[0] == tokenizer.pad_token_id
    assert short[-1] == long[-1] == tokenizer.pad_token_id
    assert long[0] not in tokenizer.all_special_ids


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_token_classifier_uses_all_its_labels(architecture: str, tmp_path: Path) -> None:
    folder = build_token_classifier(tmp_path, architecture)
    model = AutoModelForTokenClassification.from_pretrained(folder)
    inputs = inputs_of(folder)
    with torch.no_grad():
        found = model(**inputs).logits.argmax(-1)[inputs["attention_mask"].bool()]
    assert model.config.id2label == dict(enumerate(LABELS))
    assert len(found.unique()) == len(LABELS)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_makes_a_sentence_transformer(architecture: str, tmp_path: Path) -> None:
    model = SentenceTransformer(
        str(build_sentence_transformer(tmp_path / "st", architecture)), device="cpu"
    )
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    assert model.max_seq_length == 48
    assert vectors.shape == (len(TEXTS), HIDDEN_SIZE)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(TEXTS)))


@pytest.mark.parametrize("mode", sorted(POOLING_FLAGS))
def test_every_pooling_mode_gives_its_own_vectors(mode: str, tmp_path: Path) -> None:
    vectors = {
        name: SentenceTransformer(
            str(build_sentence_transformer(tmp_path / name, "bert", pooling=(name,))), device="cpu"
        ).encode(TEXTS, convert_to_tensor=True)
        for name in {mode, "mean", "cls"}
    }
    for other in {"mean", "cls"} - {mode}:
        same = {mode, other} == {"mean", "mean_sqrt_len_tokens"}  # equal but for their length
        assert (float(cosine_similarity(vectors[mode], vectors[other]).mean()) > 0.999) is same


def test_several_pooling_modes_are_concatenated_and_dense_layers_follow(tmp_path: Path) -> None:
    folder = build_sentence_transformer(
        tmp_path / "st",
        "roberta",
        pooling=("cls", "mean"),
        dense=((24, "Tanh"), (16, "Identity")),
        normalize=False,
    )
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    model = SentenceTransformer(str(folder), device="cpu")
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    assert kinds == ["Transformer", "Pooling", "Dense", "Dense"]
    assert model[1].get_sentence_embedding_dimension() == 2 * HIDDEN_SIZE
    assert vectors.shape == (len(TEXTS), 16)
    assert not torch.allclose(vectors.norm(dim=1), torch.ones(len(TEXTS)), atol=VISIBLE)


def test_prompts_are_kept_and_change_the_vectors(tmp_path: Path) -> None:
    folder = build_sentence_transformer(
        tmp_path / "st",
        "bert",
        prompts={"query": "search for: ", "document": ""},
        default_prompt_name="query",
    )
    model = SentenceTransformer(str(folder), device="cpu")
    query, document = (
        model.encode("bus to the harbour", prompt_name=name, convert_to_tensor=True)
        for name in ("query", "document")
    )
    assert model.default_prompt_name == "query"
    assert float((query - document).abs().max()) > VISIBLE


def test_a_bfloat16_checkpoint_is_the_same_model_rounded(tmp_path: Path) -> None:
    exact = load_file(build_encoder(tmp_path, "bert") / "model.safetensors")
    rounded = load_file(as_bfloat16(tmp_path) / "model.safetensors")
    assert {tensor.dtype for tensor in rounded.values()} == {torch.bfloat16}
    assert AutoModel.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16
    for name, tensor in rounded.items():
        torch.testing.assert_close(tensor.float(), exact[name], rtol=0.01, atol=0)


def test_a_pickle_checkpoint_loads_with_the_same_weights(tmp_path: Path) -> None:
    exact = load_file(build_encoder(tmp_path, "bert") / "model.safetensors")
    folder = as_pickle(tmp_path)
    loaded = AutoModel.from_pretrained(folder).state_dict()
    assert not list(folder.glob("*.safetensors"))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in exact.items())


def test_a_checkpoint_with_its_own_code_loads_only_with_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = with_remote_code(build_encoder(tmp_path / "remote", "bert"))
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModel.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    exact = load_file(folder / "model.safetensors")
    assert type(model).__name__ == "TinyRemoteModel"
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in exact.items())
