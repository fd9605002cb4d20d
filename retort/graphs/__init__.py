"""ONNX files: their headers, sessions, timings, and the heads that are traced into them."""
