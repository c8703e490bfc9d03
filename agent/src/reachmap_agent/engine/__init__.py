"""The check engine: thousands of connections at once, for the price of the system calls.

`engine` drives exchanges over `sockets`, which makes them and hands them on; `poller` tells which
are ready, `deadlines` whose time is up, `ends` what is said of each end. An `attempt` is one check.
"""
