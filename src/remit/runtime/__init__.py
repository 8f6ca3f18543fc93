"""Runs agents: the registry of tools, what the model sees, the loop, the runner."""
