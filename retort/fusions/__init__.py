"""Rewrites of graphs that neither the exporter nor ONNX Runtime's optimizer makes."""
