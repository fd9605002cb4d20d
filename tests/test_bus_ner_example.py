"""What the trained example in examples/bus_ner promises, and how its data is made."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertForTokenClassification, PreTrainedTokenizerBase

EXAMPLE = Path(__file__).parents[1] / "examples" / "bus_ner"
sys.path.insert(0, str(EXAMPLE))

import names  # noqa: E402  # the example is no package: its scripts find each other by path
from generate import Entity, Query, canonical, make_queries, phrases  # noqa: E402
from tagging import TAGS, entities_from_tags, entity_f1, predict, tag_ids  # noqa: E402
from train import HELD_OUT_SEED, Recipe, train  # noqa: E402
from wording import read_sections  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(EXAMPLE)


@pytest.fixture(scope="module")
def model() -> BertForTokenClassification:
    return BertForTokenClassification.from_pretrained(EXAMPLE).eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as training does, and give the other tests back what they had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def training_queries() -> list[Query]:
    return make_queries("train", 20_000, Recipe.seed)


def entities_in(
    text: str, model: BertForTokenClassification, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[str, str]]:
    (found,) = predict(model, tokenizer, [text])
    return [(entity.label, text[entity.start : entity.end]) for entity in found]


@pytest.mark.parametrize("change_case", [str, str.lower, str.upper])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "AC sleeper bus from Bangalore to Mumbai tomorrow",
            [
                ("BUS_TYPE", "AC"),
                ("SEAT_TYPE", "sleeper"),
                ("SRC", "Bangalore"),
                ("DEST", "Mumbai"),
                ("DATE", "tomorrow"),
            ],
        ),
        (
            "VRL Non-AC from Chennai to Hyderabad next Friday",
            [
                ("OPERATOR", "VRL"),
                ("BUS_TYPE", "Non-AC"),
                ("SRC", "Chennai"),
                ("DEST", "Hyderabad"),
                ("DATE", "next Friday"),
            ],
        ),
        (
            "to Goa from Pune on 12th March under 800 rupees 2 seats window",
            [
                ("DEST", "Goa"),
                ("SRC", "Pune"),
                ("DATE", "12th March"),
                ("PRICE", "800 rupees"),
                ("PASSENGERS", "2"),
                ("SEAT_TYPE", "window"),
            ],
        ),
        ("Delhi to Jaipur", [("SRC", "Delhi"), ("DEST", "Jaipur")]),
    ],
)
def test_the_shipped_model_finds_exactly_these_entities_in_any_case(
    text: str,
    expected: list[tuple[str, str]],
    change_case: type[str],
    model: BertForTokenClassification,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    changed = [(label, change_case(surface)) for label, surface in expected]

    assert entities_in(change_case(text), model, tokenizer) == changed


def test_the_shipped_model_reaches_an_entity_f1_of_95_percent_on_held_out_queries(
    model: BertForTokenClassification, tokenizer: PreTrainedTokenizerBase
) -> None:
    queries = make_queries("held_out", 1000, HELD_OUT_SEED)

    found = predict(model, tokenizer, [query.text for query in queries])

    assert entity_f1(queries, found) >= 0.95


def test_each_sample_text_beside_the_checkpoint_has_a_destination(
    model: BertForTokenClassification, tokenizer: PreTrainedTokenizerBase
) -> None:
    texts = (EXAMPLE / "verify_texts.txt").read_text(encoding="utf-8").splitlines()

    labels = [{label for label, _ in entities_in(text, model, tokenizer)} for text in texts]

    assert len(texts) >= 10
    assert all("DEST" in found for found in labels)


def test_the_whole_example_is_at_most_8_megabytes() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.is_file() and path.suffix != ".pyc"]

    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_the_weights_are_float32() -> None:
    weights = load_file(EXAMPLE / "model.safetensors")

    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_the_label_files_agree_with_the_configuration() -> None:
    config = json.loads((EXAMPLE / "config.json").read_text(encoding="utf-8"))
    label2id = json.loads((EXAMPLE / "label2id.json").read_text(encoding="utf-8"))
    id2label = json.loads((EXAMPLE / "id2label.json").read_text(encoding="utf-8"))

    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["label2id"] == label2id
    assert config["id2label"] == id2label
    assert [id2label[str(number)] for number in range(len(TAGS))] == list(TAGS)


def test_the_tokenizer_tells_its_true_length_and_bakes_in_no_padding(
    model: BertForTokenClassification, tokenizer: PreTrainedTokenizerBase
) -> None:
    stored = json.loads((EXAMPLE / "tokenizer.json").read_text(encoding="utf-8"))

    assert tokenizer.model_max_length == model.config.max_position_embeddings
    assert stored["truncation"] is None
    assert stored["padding"] is None


def test_held_out_templates_cities_and_operators_do_not_occur_in_training(
    training_queries: list[Query],
) -> None:
    held_out = read_sections("held_out")
    held_out_names = {canonical(name) for name in held_out["CITY"] + held_out["OPERATOR"]}
    held_out_templates = {canonical(template) for template in held_out["TEMPLATE"]}
    seen = set().union(*(phrases(query.text) for query in training_queries))

    assert seen.isdisjoint(held_out_names)
    assert held_out_templates.isdisjoint(canonical(query.template) for query in training_queries)


def test_no_listed_training_name_occurs_in_a_held_out_query() -> None:
    listed = {canonical(name) for name in names.REAL_NAMES}

    for query in make_queries("held_out", 1000, HELD_OUT_SEED):
        assert listed.isdisjoint(phrases(query.text)), query.text


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_same_seed_makes_the_same_queries_and_another_seed_others(split: str) -> None:
    assert make_queries(split, 50, seed=1) == make_queries(split, 50, seed=1)
    assert make_queries(split, 50, seed=1) != make_queries(split, 50, seed=2)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of train, held_out"):
        make_queries("test", 1, seed=1)


def test_the_tags_of_the_word_pieces_say_all_that_the_entities_say(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    for query in make_queries("train", 300, seed=3):
        offsets = tokenizer(query.text, return_offsets_mapping=True)["offset_mapping"]
        ids = tag_ids(offsets, query.entities)

        assert entities_from_tags(offsets, [TAGS[max(0, tag)] for tag in ids]) == query.entities


def test_an_entity_counts_only_with_its_exact_ends_and_label() -> None:
    query = Query("Goa to Pune", (Entity(0, 3, "SRC"), Entity(7, 11, "DEST")), "{SRC} to {DEST}")
    wrong_end, wrong_label = Entity(0, 6, "SRC"), Entity(7, 11, "SRC")

    assert entity_f1([query], [query.entities]) == 1.0
    assert entity_f1([query], [(wrong_end, Entity(7, 11, "DEST"))]) == 0.5
    assert entity_f1([query], [(wrong_end, wrong_label)]) == 0.0


def test_training_twice_from_one_seed_gives_the_same_weights() -> None:
    recipe = Recipe(queries=256, batch_size=16)

    first, _ = train(recipe, most_steps=4)
    second, _ = train(recipe, most_steps=4)

    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name]), name
