"""Names of the files of a bundle, and the version of their format."""

from __future__ import annotations

SCHEMA_VERSION = 8
JOB, TRIALS, RESULTS, LOCK = "job.json", "trials.jsonl", "results.json", "lock"
