"""Workers among faults: processes that are killed and stopped, a database that goes away, clocks that jump."""
