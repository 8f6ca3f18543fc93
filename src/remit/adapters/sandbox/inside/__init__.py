"""What runs in the sandbox's own processes. Imports the standard library and `remit.tools`, and nothing else."""
