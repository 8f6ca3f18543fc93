"""Measures of Remit and of peers on the same job, beside floors of the same moment.

Nothing here is a part of Remit. The packages `benchmarks` and `benchmarks.peers` import nothing, because
peers load them from environments of their own in which Remit is not installed.
"""
