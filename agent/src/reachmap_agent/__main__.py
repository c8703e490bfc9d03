"""`python -m reachmap_agent` is `reachmap-agent`."""

from reachmap_agent.cli import main

if __name__ == "__main__":
    main()
