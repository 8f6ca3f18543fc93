"""The one way out: HTTP to hosts that are permitted, at addresses that are looked at and then connected to.

`door.Door` sends requests; `urls` reads a URL in one way; `addresses` says which addresses are out of bounds.
"""
