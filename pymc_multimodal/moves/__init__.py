"""Markov moves that leave a density invariant, and what adapts them."""
