"""The composition root: the only place that knows which adapter stands behind which port.

What a deployment is (its home folder, its keys, where telemetry goes) comes from the environment; what an
agent may do comes from its governance file. Neither reaches into the other.
"""
