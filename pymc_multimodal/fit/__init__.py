"""The whole fit: the pipeline from a density to a result."""
