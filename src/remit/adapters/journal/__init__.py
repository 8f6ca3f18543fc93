"""Journals: one module or folder for each database."""
