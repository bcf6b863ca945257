"""What a user of PyMC and ArviZ calls."""
