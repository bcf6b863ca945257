"""What is sampled: a log density on R^d, its symmetry, its periods, its faults."""
