"""HTTP services as a toolset: operations of an OpenAPI document, or hand-written ones.

`specs.declare_http` reads the document and opens nothing; `toolset.open_http` sends requests, through the one way out.
"""
