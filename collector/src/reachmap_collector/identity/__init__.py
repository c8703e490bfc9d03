"""Who may connect to the bus: keys, JWTs and certificates, and the servers' configuration."""
