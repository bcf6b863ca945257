"""The regions of the modes, and chains that sample each."""
