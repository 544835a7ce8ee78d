"""Judging policies on held-out prompts: statistics, scoring with models, and the summary."""

SUMMARY, SAMPLES = "summary.json", "samples.jsonl"
"""What an evaluation leaves: every number with its interval; every answer with its scores."""
