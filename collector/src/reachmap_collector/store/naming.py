"""The numbers that rows have to the names which they stand for, looked up as rows bring new ones.

Cheaper than to join names to each of a million rows, and each is in memory once.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, select

from reachmap_collector.store.interning import in_parts
from reachmap_collector.store.tables import boots, hosts

Item = TypeVar("Item")


class Named(dict[int, Item]):
    """What some numbers stand for, as far as they were met. None of it ever goes or changes."""

    def __init__(
        self, connection: Connection, asked: "Select[Any]", made: Callable[..., Item]
    ) -> None:
        """`asked` begins with the number; what it stands for is made of all that follows."""
        super().__init__()
        self._connection = connection
        self._asked = asked
        self._made = made

    def meet(self, numbers: Iterable[int]) -> None:
        """Look up those that are not known yet."""
        number = self._asked.selected_columns[0]
        for some in in_parts({*numbers} - self.keys()):
            rows = self._connection.execute(self._asked.where(number.in_(some)))
            self.update((id_, self._made(*columns)) for id_, *columns in rows)


def names(connection: Connection, table: Table) -> Named[str]:
    """Those of hosts, or of services."""
    return Named(connection, select(table.c.id, table.c.name), str)


def named_boots(connection: Connection) -> Named[tuple[str, str]]:
    """Agents' starts: of which agent, and its name."""
    asked = select(boots.c.id, hosts.c.name, boots.c.boot).join_from(boots, hosts)
    return Named(connection, asked, lambda agent, boot: (agent, boot))
