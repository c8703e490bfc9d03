"""The map: every flow that the topology speaks of, as rows of numbers. Pure."""
