"""How a checkpoint's family is found, and that every family of ``onnx_configs`` is tested."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from colbert_checkpoints import build_colbert
from cross_encoder_checkpoints import build_classifier
from local_models import resolved
from splade_checkpoints import build_splade
from tiny_checkpoints import (
    ARCHITECTURES,
    build_encoder,
    build_sentence_transformer,
    build_token_classifier,
)
from tiny_variants import with_remote_code
from visual_checkpoints import build_colpali, build_colqwen2

import onnx_configs
from onnx_configs import choose_family, families
from retort.arguments import ExportArguments
from retort.artifact import Checkpoint
from retort.errors import InputError

# A new file in onnx_configs needs a builder of a tiny checkpoint here.
BUILDERS: Mapping[str, Callable[[Path], Path]] = {
    "colbert": lambda folder: build_colbert(folder, "bert"),
    "colpali": build_colpali,
    "colqwen2": build_colqwen2,
    "cross_encoder": lambda folder: build_classifier(folder, "bert"),
    "embedding": lambda folder: build_sentence_transformer(folder, "bert"),
    "splade": lambda folder: build_splade(folder, "bert"),
    "token_classification": lambda folder: build_token_classifier(folder, "bert"),
}


def described(**config: object) -> Checkpoint:
    """Return a checkpoint of which only the configuration matters."""
    return Checkpoint("org/model", "org/model", Path("absent"), config)


def chosen(checkpoint: Checkpoint, task: str = "auto", family: str = "auto") -> str:
    return choose_family(checkpoint, ExportArguments(task=task, family=family)).name


@pytest.fixture(params=sorted(BUILDERS))
def built(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Checkpoint]:
    """Return a family's name and a checkpoint of it."""
    return request.param, resolved(BUILDERS[request.param](tmp_path / "checkpoint"))


def test_each_file_of_onnx_configs_but_the_bases_is_a_family_of_that_name() -> None:
    folder = Path(str(onnx_configs.__file__)).parent
    bases = {"__init__", "base", "config_base", "visual_base"}
    files = {file.stem for file in folder.glob("*.py")} - bases
    assert set(families()) == files
    assert all(family.name == name for name, family in families().items())


def test_every_family_has_a_builder_of_a_tiny_checkpoint() -> None:
    assert set(BUILDERS) == set(families())


def test_a_checkpoint_is_recognised_by_its_family_alone(built: tuple[str, Checkpoint]) -> None:
    name, checkpoint = built
    assert [key for key, family in families().items() if family.recognises(checkpoint)] == [name]
    assert chosen(checkpoint) == name


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_backbone_of_every_architecture_is_an_embedding_model(
    architecture: str, tmp_path: Path
) -> None:
    assert chosen(resolved(build_encoder(tmp_path / "checkpoint", architecture))) == "embedding"


def test_a_backbone_with_its_own_code_is_an_embedding_model(tmp_path: Path) -> None:
    folder = with_remote_code(build_encoder(tmp_path / "checkpoint", "bert"))
    assert chosen(resolved(folder, trust_remote_code=True)) == "embedding"


@pytest.mark.parametrize(
    ("task", "family"),
    [
        ("feature-extraction", "embedding"),
        ("sentence-similarity", "embedding"),
        ("default", "embedding"),
        ("token-classification", "token_classification"),
        ("text-classification", "cross_encoder"),
        ("sequence-classification", "cross_encoder"),
        ("zero-shot-classification", "cross_encoder"),
    ],
)
def test_a_task_or_its_synonym_chooses_among_the_families_that_serve_it(
    task: str, family: str, tmp_path: Path
) -> None:
    checkpoint = resolved(BUILDERS[family](tmp_path / "checkpoint"))
    assert chosen(checkpoint, task=task) == family
    assert chosen(checkpoint, task=task, family=family) == family


def test_a_named_family_is_taken_without_looking() -> None:
    unknown = described(model_type="bert", architectures=["BertForSomething"])
    assert chosen(unknown, family="embedding") == "embedding"
    assert chosen(unknown, family="token_classification") == "token_classification"


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    known = ", ".join(families())
    with pytest.raises(InputError, match=f"--family ner: unknown; choose from {known}$"):
        chosen(described(), family="ner")


def test_a_checkpoint_of_no_family_is_refused_with_what_it_is() -> None:
    chooser = described(model_type="bert", architectures=["BertForMultipleChoice"])
    with pytest.raises(InputError, match=r"bert: BertForMultipleChoice.*name a --family"):
        chosen(chooser)
    with pytest.raises(InputError, match="no architectures"):
        chosen(described(model_type="bert"))


def test_a_checkpoint_of_two_families_is_refused_until_one_is_named(tmp_path: Path) -> None:
    folder = build_sentence_transformer(tmp_path / "checkpoint", "bert")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    both = config | {"architectures": ["BertForTokenClassification"]}
    path.write_text(json.dumps(both), encoding="utf-8")
    checkpoint = resolved(folder)
    with pytest.raises(InputError, match="could be embedding or token_classification; name one"):
        chosen(checkpoint)
    assert chosen(checkpoint, family="embedding") == "embedding"
    assert chosen(checkpoint, family="token_classification") == "token_classification"
    assert chosen(checkpoint, task="token-classification") == "token_classification"


def test_a_task_that_is_not_the_named_family_s_is_refused(built: tuple[str, Checkpoint]) -> None:
    name, checkpoint = built
    others = {task for family in families().values() for task in family.tasks}
    others -= set(families()[name].tasks)
    for task in others:
        with pytest.raises(InputError, match=f"--task {task} is not a task of --family {name}"):
            chosen(checkpoint, task=task, family=name)


def test_a_task_that_the_checkpoint_is_not_made_for_is_refused(
    built: tuple[str, Checkpoint],
) -> None:
    name, checkpoint = built
    others = {task for family in families().values() for task in family.tasks}
    others -= set(families()[name].tasks)
    for task in others:
        with pytest.raises(InputError, match="is not recognised as"):
            chosen(checkpoint, task=task)


def test_a_task_of_no_family_is_refused_with_the_tasks_there_are() -> None:
    tasks = sorted({task for family in families().values() for task in family.tasks})
    with pytest.raises(InputError, match=f"no family of Retort serves it.*{', '.join(tasks)}"):
        chosen(described(), task="image-classification")


def test_a_task_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match="--task embeddings-please: Optimum knows no such task"):
        chosen(described(), task="embeddings-please")


@pytest.mark.parametrize(
    ("option", "value", "owners"),
    [
        ("pooling", "mean", "embedding"),
        ("splade_outputs", ["sparse_vector"], "splade"),
        ("visual_variant", "text", "colpali and colqwen2"),
    ],
)
def test_an_option_of_another_family_is_refused_and_not_ignored(
    option: str, value: object, owners: str
) -> None:
    tagger = described(architectures=["BertForTokenClassification"], model_type="bert")
    with pytest.raises(InputError, match=f"--{option} is for {owners}, and this is token_class"):
        choose_family(tagger, ExportArguments(**{option: value}))
