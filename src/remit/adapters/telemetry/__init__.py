"""Telemetry: spans, metrics and log lines, built from what the gate and the runner say happened.

Nothing here decides anything, and nothing here may slow, stop or change what it shows.
"""
