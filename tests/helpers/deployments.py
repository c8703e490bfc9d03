"""Topologies that more than one module's tests are about, or change for what they are about."""

SMALL = """
[roles.web]
listens = { "web:80" = { protocol = "http" } }
[roles.browser]
connects = ["web:80"]
[hosts.w]
roles = ["web"]
addresses = ["10.0.0.1"]
[hosts.b]
roles = ["browser"]
addresses = ["10.0.0.2"]
"""
"""A web server and a browser."""
