"""Runs code that nobody trusts: each call in a fresh process that can reach nothing but us.

`inside` is what runs in the sandbox's own processes, on the standard library alone; `zygote` and `pool` start and
watch them from our side. A sandbox that cannot be had is an error: nothing ever runs in less than was asked for.
"""
