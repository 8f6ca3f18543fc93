"""Pure decisions: what an agent may do, from its governance file and from declarations alone."""
