"""Diffusion from a learned reference (arXiv 2410.19449)."""
