"""`reachmap demo`: a small OpenUEM deployment on this machine, made of real processes."""
