"""Shipped for tests of agents, tools and adapters: fakes, the scripted model server, conformance suites."""
