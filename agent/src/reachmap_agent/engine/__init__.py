"""The check engine: thousands of connections at once, for the price of the system calls.

`engine` drives sockets and exchanges, `poller` tells which are ready.
"""
