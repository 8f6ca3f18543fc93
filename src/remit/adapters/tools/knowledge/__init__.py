"""A knowledge base as a toolset: a folder of pages, and the tool that searches it.

`specs.declare_knowledge` opens nothing; `toolset.open_knowledge` brings the index up to date.
"""
