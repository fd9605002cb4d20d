"""Retort: retrieval and NER checkpoints to ONNX folders, measured against the original."""

__version__ = "0.1.0"
