"""Mail as a toolset: letters of the model's own words or from templates, to the recipients that are permitted.

`specs.declare_mail` opens nothing; `toolset.open_mail` reads the server's address. No connection is kept.
"""
