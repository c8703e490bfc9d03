"""What should be: port matrices (profiles) and deployments (topologies), as data."""
