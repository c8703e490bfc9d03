"""`reachmap completion`: the script by which a shell completes `reachmap`."""

from typing import Final

import click
from click.shell_completion import get_completion_class

PROGRAM: Final = "reachmap"
_VARIABLE: Final = "_REACHMAP_COMPLETE"
"""By which the script asks; click takes it from the program's name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands, options and the names of hosts and services.

    Names are asked of the collector, where one answers at once.

    \b
    Examples:
      source <(reachmap completion bash)          in ~/.bashrc
      source <(reachmap completion zsh)           in ~/.zshrc, after compinit
      reachmap completion fish > ~/.config/fish/completions/reachmap.fish
    """
    of_shell = get_completion_class(shell)
    assert of_shell is not None  # click has all three
    root = click.get_current_context().find_root().command
    click.echo(of_shell(root, {}, PROGRAM, _VARIABLE).source())


COMMANDS: Final = (completion,)
