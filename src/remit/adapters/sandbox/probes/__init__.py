"""The self-check: attempts to get out of the sandbox, really made inside it, each of which must fail."""
