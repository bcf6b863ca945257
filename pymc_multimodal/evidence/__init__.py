"""The evidence of each region and the weights of the modes, with their errors."""
