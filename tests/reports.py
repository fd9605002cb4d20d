"""Reports that are made up, for what shows them."""

from __future__ import annotations

from retort.report import FileReport, Ladder, RungReport, ValidationReport

LAYERS = {
    f"/encoder/layer.{layer}/{part}/MatMul_quant": 0.01 * (layer + 1) + len(part) / 1000
    for layer in range(3)
    for part in ("attention/query", "attention/value", "output")
}
SCORES = tuple(1 - 0.5 / (place + 2) ** 1.5 for place in range(300))


def file_report(
    file: str, precision: str, size: int, speed: tuple[float, ...], error: float
) -> FileReport:
    """Return a row whose scores are so far from 1."""
    scores = tuple(round(1 - error * (1 - score), 6) for score in SCORES)
    mean = sum(scores) / len(scores)
    fused = {} if precision == "fp32" else {"Attention": 2}
    case = "batch 8, left padding"
    return FileReport(
        file, precision, size, 18, 8, fused, mean, min(scores), error, case, speed, 1.0, scores
    )


def report(*ladders: Ladder) -> ValidationReport:
    """Return a report of two files of different sizes."""
    files = (
        file_report("onnx/model.onnx", "fp32", 90_400_000, (1.0, 1.0), 1e-7),
        file_report("onnx/model_quantized.onnx", "QInt8", 22_800_000, (2.65, 1.62), 0.1),
    )
    unit = "cosine of embeddings"
    return ValidationReport("a library 1.0", unit, 173, ("1×32", "8×128"), files, ladders)


def ladder(layers: dict[str, float] | None = None) -> Ladder:
    """Return a ladder of two recipes, of which the second passed."""
    rungs = (
        RungReport("plain", 22_900_000, 0.9894, 0.9669, 0.985, (2.3, 2.2), passed=False),
        RungReport("static", 23_800_000, 0.9993, 0.995, 1.0, (2.7, 2.6), passed=True, note="kept"),
    )
    return Ladder("QInt8", 0.999, rungs, layers or {})
