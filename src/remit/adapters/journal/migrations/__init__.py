"""The journal's schema, one forward-only step a file."""
