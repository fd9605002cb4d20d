"""Train the bus-query tagger on generated text: ``python train.py --output DIR --seed N``."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from generate import Query, make_queries
from tagging import TAGS, entity_f1, predict, tag_ids
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast
from word_pieces import MAX_LENGTH, make_tokenizer, make_vocabulary

HELD_OUT_SEED = 2026


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run.

    Attributes:
        queries: How many training queries to make.
        epochs: How often to go through them.
        batch_size: Queries per step.
        learning_rate: The peak, reached after the first 5% of the steps.
        words: How many whole words the vocabulary holds.
        pieces: How many openings of words, and how many continuations, it holds.
        seed: What the data, the first weights, the dropout and the order follow from.
    """

    queries: int = 192_000
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 1.2e-3
    words: int = 2_000
    pieces: int = 1_000
    seed: int = 7


def make_model(vocabulary_size: int) -> BertForTokenClassification:
    """Return a small BERT with random weights and one output per tag."""
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=MAX_LENGTH,
        type_vocab_size=2,
        initializer_range=0.05,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(TAGS)),
        label2id={tag: number for number, tag in enumerate(TAGS)},
    )
    return BertForTokenClassification(config)


@dataclass(frozen=True)
class Example:
    """A tokenized query: the ids of its pieces and of their tags."""

    input_ids: list[int]
    tags: list[int]


def make_examples(queries: list[Query], tokenizer: BertTokenizerFast) -> list[Example]:
    """Tokenize queries and give every piece its tag."""
    examples = []
    for first in range(0, len(queries), 5000):  # in parts: the tokenizer's answers are large
        part = queries[first : first + 5000]
        encoded = tokenizer(
            [query.text for query in part], truncation=True, return_offsets_mapping=True
        )
        examples += [
            Example(ids, tag_ids(offsets, query.entities))
            for ids, offsets, query in zip(
                encoded["input_ids"], encoded["offset_mapping"], part, strict=True
            )
        ]
    return examples


def _batches(
    examples: list[Example], size: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give out all examples in random order, those of like length together."""
    order = rng.sample(range(len(examples)), len(examples))
    pools = [order[first : first + 50 * size] for first in range(0, len(order), 50 * size)]
    batches = []
    for pool in pools:
        pool.sort(key=lambda place: len(examples[place].input_ids))
        batches += [pool[first : first + size] for first in range(0, len(pool), size)]
    rng.shuffle(batches)
    for batch in batches:
        width = max(len(examples[place].input_ids) for place in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        tags = torch.full((len(batch), width), -100)
        for row, place in enumerate(batch):
            length = len(examples[place].input_ids)
            ids[row, :length] = torch.tensor(examples[place].input_ids)
            tags[row, :length] = torch.tensor(examples[place].tags)
        yield ids, tags


def fit(
    model: BertForTokenClassification,
    examples: list[Example],
    recipe: Recipe,
    most_steps: int | None = None,
) -> None:
    """Train the model in place with AdamW and a rate that rises, then falls to zero."""
    steps = -(-len(examples) // recipe.batch_size) * recipe.epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    rng, started, done = random.Random(recipe.seed), time.monotonic(), 0
    model.train()
    for _ in range(recipe.epochs):
        for ids, tags in _batches(examples, recipe.batch_size, rng):
            # Moved positions: queries are short, but the far positions must learn as well.
            shift = rng.choice((0, 0, rng.randint(0, MAX_LENGTH - ids.shape[1])))
            places = torch.arange(shift, shift + ids.shape[1]).unsqueeze(0)
            mask = (ids != 0).long()
            loss = model(ids, attention_mask=mask, position_ids=places, labels=tags).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
            if done % 500 == 0:
                spent = time.monotonic() - started
                print(f"step {done}/{steps}  loss {loss:.4f}  {spent:.0f} s", file=sys.stderr)
            if done == most_steps:
                return


def save(model: BertForTokenClassification, tokenizer: BertTokenizerFast, folder: Path) -> None:
    """Write the checkpoint: weights as safetensors, tokenizer, labels."""
    model.save_pretrained(folder)
    # Else tokenizer.json would carry the truncation of training into every consumer.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    id2label = {str(number): tag for number, tag in enumerate(TAGS)}
    label2id = {tag: number for number, tag in enumerate(TAGS)}
    for name, labels in (("id2label.json", id2label), ("label2id.json", label2id)):
        (folder / name).write_text(json.dumps(labels, indent=2) + "\n", encoding="utf-8")


def train(
    recipe: Recipe, most_steps: int | None = None
) -> tuple[BertForTokenClassification, BertTokenizerFast]:
    """Make the data, the tokenizer and the model, and train; the seed decides everything."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    queries = make_queries("train", recipe.queries, recipe.seed)
    vocabulary = make_vocabulary(queries, recipe.words, recipe.pieces)
    tokenizer = make_tokenizer(vocabulary)
    model = make_model(len(vocabulary))
    fit(model, make_examples(queries, tokenizer), recipe, most_steps)
    return model.eval(), tokenizer


def main() -> None:
    """Train, save, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--queries", type=int, default=Recipe.queries)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    arguments = parser.parse_args()
    recipe = Recipe(queries=arguments.queries, epochs=arguments.epochs, seed=arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    model, tokenizer = train(recipe)
    seconds = time.monotonic() - started
    save(model, tokenizer, arguments.output)
    held_out = make_queries("held_out", 2000, HELD_OUT_SEED)
    found = predict(model, tokenizer, [query.text for query in held_out])
    figures = {
        "held_out_entity_f1": round(entity_f1(held_out, found), 4),
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "seconds": round(seconds),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
