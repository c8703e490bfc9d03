"""What agent and collector have in common: vocabulary, names, messages, subjects and the bus.

It imports neither of the two, and only `reachmap_shared.bus` imports the NATS client.
"""

__version__ = "0.1.0"
