"""Where a density comes from: a PyMC model, compiled."""
