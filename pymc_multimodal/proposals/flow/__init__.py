"""Masked autoregressive flows."""
