"""Commands that have commands: how they are listed, and what is said of one that is none."""

import difflib

import click


class Group(click.Group):
    """As click's, but it lists whole sentences, and knows what is near."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List them; the end of a sentence often says what it is about."""
        found = {name: self.get_command(context, name) for name in self.list_commands(context)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(limit=200)) for name, one in found.items() if one]
            )

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click has it; who mistypes one hears of those that are near."""
        known = self.list_commands(context)
        near = difflib.get_close_matches(args[0], known, n=3, cutoff=0.6)
        if near and args[0] not in known and not context.resilient_parsing:
            context.fail(f"no such command {args[0]!r}; did you mean {' or '.join(near)}?")
        return super().resolve_command(context, args)
