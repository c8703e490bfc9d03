"""reachmap's agent: gathers evidence on one host, and judges nothing.

`app` composes it: `prober` runs the checks that `schedule` says are due, speaking `protocols`;
`listeners` stands in for services that are not there yet; `outbox` keeps what the collector has
not been sent. What they are to do comes in a plan over the bus.
"""
