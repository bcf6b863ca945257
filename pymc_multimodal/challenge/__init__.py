"""The attempt to prove a fit incomplete."""
