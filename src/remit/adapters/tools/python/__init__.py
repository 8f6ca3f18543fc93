"""Python functions as tools: what they declare is read in the sandbox, and each call runs in one.

No code of theirs is ever imported here. `specs.declare_python` gives the declarations, `toolset.open_python` the host.
"""
