"""The published hybrid recipe (arXiv 2505.07825)."""
