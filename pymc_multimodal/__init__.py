"""Exact draws and trustworthy mode weights for multimodal PyMC models."""
