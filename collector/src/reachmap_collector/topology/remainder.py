"""What is left of a file when all that has no shape is taken out of it. Pure.

A file with mistakes is refused whole, and whoever wrote it wants to hear of all of them: what the
schema refuses must not hide what only the whole can show. So that is taken out, and the rest is
looked at; but nothing is said of it that might be wrong only for lack of what was taken out.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final

Place = tuple[int | str, ...]
"""Keys and indices from the top of a file to something in it."""

_DEFINING: Final = ("profiles", "rows")
"""What others refer to: without any of it, they seem to refer to nothing."""

_OF_LISTED: Final = ("roles[", "was[")
"""What may be said of a host whatever it has lost."""

_OF_ROLES: Final = ("ports.", "listen.")
"""What may be said of one whose roles are known."""


class Remainder:
    """A file's content, of which more and more may be taken.

    Args:
        content: The whole, which is left as it is.
        shown: How people are told of a place.
    """

    def __init__(self, content: dict[str, Any], shown: Callable[[Place], str]) -> None:
        self.content = copy.deepcopy(content)
        self.is_telling = True
        """Whether what is wrong with the rest is wrong with the file."""
        self._shown = shown
        self._lists: dict[str, list[int]] = {}
        """Of lists that lost something, by place: where each of the rest stood in it."""
        self._hosts: dict[str, bool] = {}
        """Of hosts that lost something, by place: whether their roles are still known."""

    def lose(self, mistakes: Sequence[tuple[Place, bool]]) -> bool:
        """Take out what is at these places, or else what should have something there.

        Args:
            mistakes: Places, and whether the key there is unknown: it may stand for any other.

        Returns:
            Whether there is less now.
        """
        found: dict[Place, bool] = {}
        for place, is_unknown in mistakes:
            reached = self._reached(place)
            found[reached] = found.get(reached, False) or is_unknown
        # The last first, or those after one that is gone would be looked for in its place.
        for place in sorted(found, key=_in_order, reverse=True):
            if not place:
                return False
            self._note(place, is_unknown=found[place])
            self._take_out(place)
        return bool(found)

    def as_written(self, where: str) -> str | None:
        """A place in the rest, as it is in the file; None if nothing may be said of it."""
        if not self.is_telling:
            return None
        for host, has_roles in self._hosts.items():
            if where == host or where.startswith(f"{host}."):
                sayable = _OF_LISTED + _OF_ROLES * has_roles
                if not where.removeprefix(f"{host}.").startswith(sayable):
                    return None
        for place, indices in self._lists.items():
            if where.startswith(f"{place}["):
                index, _, rest = where.removeprefix(f"{place}[").partition("]")
                return f"{place}[{indices[int(index)]}]{rest}"
        return where

    def _reached(self, place: Place) -> Place:
        """As far down to a place as there is something."""
        reached: list[int | str] = []
        here: Any = self.content
        for key in place:
            if isinstance(here, str):  # which has places of its own
                break
            try:
                here = here[key]
            except (LookupError, TypeError):
                break
            reached.append(key)
        return tuple(reached)

    def _note(self, place: Place, *, is_unknown: bool) -> None:
        top, *below = place
        if top == "hosts" and below:
            lost = below[1] if len(below) > 1 else "roles"
            host = self._shown(place[:2])
            self._hosts[host] = self._hosts.get(host, True) and lost != "roles" and not is_unknown
        elif top == "roles":
            is_service = below[1:2] in ([], ["listens"]) and len(below) <= 3
            self.is_telling = self.is_telling and not (is_service or is_unknown)
        elif top in _DEFINING or is_unknown:
            self.is_telling = False

    def _take_out(self, place: Place) -> None:
        holder: Any = self.content
        for key in place[:-1]:
            holder = holder[key]
        if isinstance(holder, list):
            indices = self._lists.setdefault(self._shown(place[:-1]), [*range(len(holder))])
            del indices[int(place[-1])]
        del holder[place[-1]]


def _in_order(place: Place) -> list[tuple[int, str]]:
    return [(key, "") if isinstance(key, int) else (-1, key) for key in place]
