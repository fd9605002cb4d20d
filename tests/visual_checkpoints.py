"""Tiny ColQwen2 and ColPali checkpoints, with the processors' files, built at test time.

Their weights are random but large, so that a wrong pixel, position or grid is as visible as a
wrong word. Images have few patches: at most twelve merged ones for ColQwen2, sixteen for ColPali.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_tokenizers import tiny_tokenizer
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import nn
from transformers import (
    ColPaliConfig,
    ColPaliForRetrieval,
    ColPaliProcessor,
    ColQwen2Config,
    ColQwen2ForRetrieval,
    ColQwen2Processor,
    GemmaTokenizerFast,
    PreTrainedTokenizerFast,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    SiglipImageProcessor,
)

from retort.texts import validation_texts

EMBEDDING_DIM = 128
HIDDEN_SIZE = 64
PATCH_SIZE = 14
MERGED_SIDE = 28
QWEN_TOKENS = (
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
GEMMA_VOCABULARY_SIZE = 600
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def build_colqwen2(
    folder: Path,
    *,
    min_pixels: int = 4 * MERGED_SIDE**2,
    max_pixels: int = 12 * MERGED_SIDE**2,
    padding_side: str = "left",
    seed: int = 0,
    **prompts: str,
) -> Path:
    """Write a ColQwen2 checkpoint as transformers saves model and processor.

    Args:
        folder: Where to write; made if it is missing.
        min_pixels: The least area that an image is resized to.
        max_pixels: The largest.
        padding_side: ``left`` or ``right``.
        seed: Decides all weights.
        prompts: ``visual_prompt_prefix`` and ``query_prefix``, if not the published ones.
    """
    tokenizer = _qwen_tokenizer(padding_side)
    ids = tokenizer.convert_tokens_to_ids
    special = {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }
    text = {
        "model_type": "qwen2_vl_text",
        "vocab_size": len(tokenizer) + 8,  # as published: more rows than tokens
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": HIDDEN_SIZE,
        "num_heads": 4,
        "mlp_ratio": 2,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    vlm = {"model_type": "qwen2_vl", "text_config": text, "vision_config": vision, **special}
    model = ColQwen2ForRetrieval(ColQwen2Config(vlm_config=vlm, embedding_dim=EMBEDDING_DIM))
    images = Qwen2VLImageProcessor(min_pixels=min_pixels, max_pixels=max_pixels)
    processor = ColQwen2Processor(images, tokenizer, chat_template=CHAT_TEMPLATE, **prompts)
    return _saved(folder, model, processor, seed)


def build_colpali(
    folder: Path,
    *,
    image_size: int = 4 * PATCH_SIZE,
    padding_side: str = "left",
    seed: int = 0,
    **prompts: str,
) -> Path:
    """Write a ColPali checkpoint as transformers saves model and processor.

    Args:
        folder: Where to write; made if it is missing.
        image_size: The side of the square that every image is resized to.
        padding_side: ``left`` or ``right``.
        seed: Decides all weights.
        prompts: ``visual_prompt_prefix`` and ``query_prefix``, if not the published ones.
    """
    patches = (image_size // PATCH_SIZE) ** 2
    tokenizer = gemma_tokenizer(padding_side)
    images = SiglipImageProcessor(size={"height": image_size, "width": image_size})
    images.image_seq_length = patches
    # The processor adds the tokens of places and segments to the tokenizer.
    processor = ColPaliProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE, **prompts)
    text = {
        "model_type": "gemma",
        "vocab_size": len(tokenizer) + 8,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "num_image_tokens": patches,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": image_size,
        "patch_size": PATCH_SIZE,
        "projection_dim": HIDDEN_SIZE,
        "vision_use_head": False,
    }
    vlm = {
        "model_type": "paligemma",
        "image_token_index": processor.image_token_id,
        "projection_dim": HIDDEN_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "pad_token_id": tokenizer.pad_token_id,
        "text_config": text,
        "vision_config": vision,
    }
    model = ColPaliForRetrieval(ColPaliConfig(vlm_config=vlm, embedding_dim=EMBEDDING_DIM))
    return _saved(folder, model, processor, seed)


def _saved(folder: Path, model: nn.Module, processor: Any, seed: int) -> Path:
    _randomize(model, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _randomize(model: nn.Module, seed: int) -> None:
    """Draw every parameter: matrices keep the size of what they take, norms get random scales."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=random)
            if parameter.dim() > 1:
                parameter.copy_(values * 1.5 / parameter[0].numel() ** 0.5)
            else:  # Gemma's scales are counted from 0, the others' from 1
                parameter.add_(0.3 * values)


def _qwen_tokenizer(padding_side: str) -> PreTrainedTokenizerFast:
    """Return Qwen2's tokenizer in small: byte-level pieces, and no tokens put around a text."""
    backend = tiny_tokenizer("qwen3").backend_tokenizer
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.add_special_tokens(list(QWEN_TOKENS))
    return Qwen2TokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(QWEN_TOKENS),
        padding_side=padding_side,
        model_max_length=2048,
    )


def gemma_tokenizer(padding_side: str) -> PreTrainedTokenizerFast:
    """Return Gemma's tokenizer in small: pieces with ``▁`` for spaces, and bytes for the rest."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    octets = [f"<0x{octet:02X}>" for octet in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=GEMMA_VOCABULARY_SIZE,
        special_tokens=[*GEMMA_TOKENS, *octets],
        limit_alphabet=120,
        show_progress=False,
    )
    backend.train_from_iterator((sample.text for sample in validation_texts()), trainer)
    backend.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    return GemmaTokenizerFast(
        tokenizer_object=backend, padding_side=padding_side, model_max_length=2048
    )
