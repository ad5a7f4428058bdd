"""Names of the files in a run directory."""

from __future__ import annotations

from collections.abc import Mapping

RUN, SPACE, RECIPE = "run.json", "space.yaml", "recipe.yaml"
TRAINING_LOG = "training.csv"
SPEED, TENSORBOARD = "speed.csv", "tensorboard"
TRANSFER = "transfer.json"
SUPERNET = "supernet.safetensors"
FILES = "files.csv"
CHECKPOINTS = "checkpoints"
ARCHIVE, ARCHIVE_CSV = "archive.sqlite", "archive.csv"
PREDICTOR, PREDICTIONS = "predictor.json", "predictions.csv"
SURROGATE = "surrogate.json"
PROFILES = "profiles"
SEARCH, SEARCH_CSV, SCREENING = "search.json", "search.csv", "screening.csv"
FRONT, BASELINE = "front.csv", "baseline.csv"
LOCK = ".lock"
SEARCHES, LAST_SEARCH = "searches", "last_search.json"
EXPORTS = "exports"
ONNX, TORCH, WEIGHTS, PYTHON = ".onnx", ".pt2", ".safetensors", ".py"
TEST = "test.csv"
REPORT = "report.html"
CSV_COLUMNS: Mapping[str, tuple[str, ...]] = {
    FRONT: ("arch_id", "arch", "latency_ms", "measured_latency_ms"),
    BASELINE: ("arch_id", "arch", "latency_ms"),
    SEARCH_CSV: ("arch_id", "arch"),
    PREDICTIONS: ("kind", "round", "arch_id", "metric", "predicted", "evaluated"),
    TEST: ("arch_id",),
    TRAINING_LOG: ("step", "lr", "loss_largest", "loss_smallest", "loss_random"),
}
"""Required columns of the tables."""
TEXT_COLUMNS = frozenset(
    {"arch_id", "arch", "evaluated_as", "group", "kind", "metric", "precision", "predictor"}
)
"""Text columns of the tables; all other columns are numbers or booleans."""
