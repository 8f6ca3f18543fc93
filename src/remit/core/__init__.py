"""Values: frozen, slotted, keyword-only. No I/O, no clock, no globals that change."""
