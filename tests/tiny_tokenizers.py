"""Tiny tokenizers of every kind, made from the texts that ship with Retort.

They have the special tokens, the post-processor and the transformers class of the published
models they stand for, so that ``AutoTokenizer`` treats both alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AlbertTokenizerFast,
    BertTokenizerFast,
    CamembertTokenizerFast,
    DebertaV2TokenizerFast,
    DistilBertTokenizerFast,
    ElectraTokenizerFast,
    MPNetTokenizerFast,
    PreTrainedTokenizerFast,
    Qwen2TokenizerFast,
    RobertaTokenizerFast,
    XLMRobertaTokenizerFast,
)

from retort.texts import validation_texts

VOCABULARY_SIZE = 1000
MAX_LENGTH = 128

# Roles and tokens in the order of their ids.
BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_TOKENS = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
ALBERT_TOKENS = BERT_TOKENS | {"pad_token": "<pad>", "unk_token": "<unk>"}
MPNET_TOKENS = ROBERTA_TOKENS | {"unk_token": "[UNK]"}
QWEN_TOKENS = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
LLAMA_TOKENS = {"bos_token": "<|begin_of_text|>", "pad_token": "<|end_of_text|>"}

BERT_PAIRS = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
UNTYPED_BERT_PAIRS = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")
ROBERTA_PAIRS = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
QWEN_PAIRS = ("$A <|endoftext|>", "$A <|endoftext|> $B <|endoftext|>")
LLAMA_PAIRS = ("<|begin_of_text|> $A", "<|begin_of_text|> $A <|begin_of_text|> $B")

TYPED_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
UNTYPED_INPUTS = ("input_ids", "attention_mask")


def _pieces(word: str, continuation: str) -> Iterator[str]:
    """Yield every run of up to six characters of a word, marked where it continues the word."""
    for start in range(len(word)):
        mark = continuation if start else ""
        for end in range(start + 1, min(start + 6, len(word)) + 1):
            yield mark + word[start:end]


def _frequent_pieces(tokenizer: Tokenizer, limit: int, continuation: str = "") -> Counter[str]:
    """Return how often the most useful pieces of the shipped texts occur in them.

    The trainers for WordPiece and Unigram give another vocabulary in every process; counting
    does not. Characters seen twice come first, then what saves the most characters.
    """
    counts: Counter[str] = Counter()
    for sample in validation_texts():
        normal = tokenizer.normalizer.normalize_str(sample.text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            counts.update(_pieces(word, continuation))

    def rank(piece: str) -> tuple[bool, int, str]:
        saved = len(piece.removeprefix(continuation)) - 1
        return (saved > 0 or counts[piece] == 1, -counts[piece] * max(saved, 1), piece)

    return Counter({piece: counts[piece] for piece in sorted(counts, key=rank)[:limit]})


def _word_piece(tokens: Mapping[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    pieces = _frequent_pieces(tokenizer, VOCABULARY_SIZE - len(tokens), continuation="##")
    ids = {piece: index for index, piece in enumerate([*tokens.values(), *pieces])}
    tokenizer.model = models.WordPiece(ids, unk_token=tokens["unk_token"])
    return tokenizer


def _byte_level(tokens: Mapping[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(tokens.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((sample.text for sample in validation_texts()), trainer)
    return tokenizer


def _unigram(tokens: Mapping[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    single_spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), single_spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    pieces = _frequent_pieces(tokenizer, VOCABULARY_SIZE - len(tokens))
    total = pieces.total()
    specials = [(token, 0.0) for token in tokens.values()]
    scores = [(piece, math.log(count / total)) for piece, count in pieces.items()]
    unknown = list(tokens).index("unk_token")
    tokenizer.model = models.Unigram([*specials, *scores], unk_id=unknown)
    return tokenizer


@dataclass(frozen=True)
class TinyTokenizer:
    """How one architecture's tokenizer is made.

    Attributes:
        algorithm: Makes a tokenizer that knows the given special tokens.
        wrapper: The transformers class that loads it.
        tokens: The special tokens by role, in the order of their ids.
        templates: What surrounds a single text, and a pair of texts.
        inputs: The names of the arrays that the tokenizer gives to the model.
        padding_side: ``right`` or ``left``.
    """

    algorithm: Callable[[Mapping[str, str]], Tokenizer]
    wrapper: type[PreTrainedTokenizerFast]
    tokens: Mapping[str, str]
    templates: tuple[str, str]
    inputs: tuple[str, ...] = UNTYPED_INPUTS
    padding_side: str = "right"


TOKENIZERS: Mapping[str, TinyTokenizer] = {
    "bert": TinyTokenizer(_word_piece, BertTokenizerFast, BERT_TOKENS, BERT_PAIRS, TYPED_INPUTS),
    "distilbert": TinyTokenizer(_word_piece, DistilBertTokenizerFast, BERT_TOKENS, BERT_PAIRS),
    "electra": TinyTokenizer(
        _word_piece, ElectraTokenizerFast, BERT_TOKENS, BERT_PAIRS, TYPED_INPUTS
    ),
    "mpnet": TinyTokenizer(_word_piece, MPNetTokenizerFast, MPNET_TOKENS, ROBERTA_PAIRS),
    "roberta": TinyTokenizer(_byte_level, RobertaTokenizerFast, ROBERTA_TOKENS, ROBERTA_PAIRS),
    "modernbert": TinyTokenizer(
        _byte_level, PreTrainedTokenizerFast, BERT_TOKENS, UNTYPED_BERT_PAIRS
    ),
    "qwen3": TinyTokenizer(
        _byte_level, Qwen2TokenizerFast, QWEN_TOKENS, QWEN_PAIRS, padding_side="left"
    ),
    "llama": TinyTokenizer(_byte_level, PreTrainedTokenizerFast, LLAMA_TOKENS, LLAMA_PAIRS),
    "xlm-roberta": TinyTokenizer(_unigram, XLMRobertaTokenizerFast, ROBERTA_TOKENS, ROBERTA_PAIRS),
    "camembert": TinyTokenizer(_unigram, CamembertTokenizerFast, ROBERTA_TOKENS, ROBERTA_PAIRS),
    "albert": TinyTokenizer(_unigram, AlbertTokenizerFast, ALBERT_TOKENS, BERT_PAIRS, TYPED_INPUTS),
    "deberta-v2": TinyTokenizer(
        _unigram, DebertaV2TokenizerFast, BERT_TOKENS, BERT_PAIRS, TYPED_INPUTS
    ),
}


@cache
def _trained(name: str) -> str:
    """Return the tokenizer of a row of the table, without its wrapper, as JSON."""
    recipe = TOKENIZERS[name]
    tokenizer = recipe.algorithm(recipe.tokens)
    tokenizer.add_special_tokens(list(recipe.tokens.values()))
    single, pair = recipe.templates
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in recipe.tokens.values()],
    )
    return str(tokenizer.to_str())


def tiny_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Return a fresh copy of the tokenizer of a row of ``TOKENIZERS``."""
    recipe = TOKENIZERS[name]
    return recipe.wrapper(
        tokenizer_object=Tokenizer.from_str(_trained(name)),
        model_input_names=list(recipe.inputs),
        model_max_length=MAX_LENGTH,
        padding_side=recipe.padding_side,
        **recipe.tokens,
    )
