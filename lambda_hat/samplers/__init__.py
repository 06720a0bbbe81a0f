"""The samplers of the local posterior, one file each, and what they have in common."""
