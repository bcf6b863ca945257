"""Score matching with data-based initialisation (arXiv 2310.01762)."""
