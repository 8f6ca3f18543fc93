"""Protocols and the values that cross them; nothing else."""
