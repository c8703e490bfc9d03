"""`python -m reachmap_collector` is `reachmap`."""

from reachmap_collector.cli import main

if __name__ == "__main__":
    main()
