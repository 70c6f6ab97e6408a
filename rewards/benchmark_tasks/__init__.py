"""Scorers of published benchmarks, one a file: evaluation only, they make no prompts and are no reward tasks."""
