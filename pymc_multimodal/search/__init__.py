"""The search for modes: optimisation from many starts."""
