"""The command `reachmap`, which is `python -m reachmap_collector` too."""

import sys  # and nothing that has to be loaded first: Ctrl-C may meet that

_INTERRUPTED = 130
"""What a shell reports of a program that SIGINT ended."""


def main() -> None:
    """Run the command; an impatient Ctrl-C ends it quietly, also while it still loads."""
    try:
        # Here, since loading takes most of a second on a slow disk, and Ctrl-C may meet it.
        from reachmap_collector.cli import main as reachmap
        from reachmap_collector.cli import patience

        patience.count_from_start()
        reachmap(prog_name="reachmap")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
