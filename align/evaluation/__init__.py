"""Judging policies on held-out prompts: statistics, scoring with models, and the summary."""
