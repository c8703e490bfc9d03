"""The errors that reachmap raises on purpose. Pure.

    ReachmapError
    ├── InvalidName          an identifier that cannot be one
    ├── InvalidSettings      a setting that cannot be used
    ├── MalformedMessage     bytes from the bus that are not the message they should be
    └── BusError
        ├── BusUnavailable   no NATS server answers
        │   └── AccessRefused  one answers, and does not let us in
        └── QueryRefused     the collector answered a query with an error

The collector adds `InvalidFile` and its kin. A failed check is never an error: it is data.
"""


class ReachmapError(Exception):
    """The root of all errors that a caller may want to tell a person about."""


class InvalidName(ReachmapError, ValueError):
    """An identifier that cannot be one; the message says what was expected."""


class InvalidSettings(ReachmapError):
    """A setting that cannot be used; the message says which, and what was expected."""


class MalformedMessage(ReachmapError):
    """Bytes from the bus that are not the message they should be; says where and why."""


class BusError(ReachmapError):
    """Something went wrong between us and the NATS server."""


class BusUnavailable(BusError):
    """No NATS server answers, or nobody behind it does."""


class AccessRefused(BusUnavailable):
    """A NATS server answers, and does not let us in; the message says why, and what to do."""


class QueryRefused(BusError):
    """The collector understood a query and answered with an error.

    `code` is the micro service error code: "400" for a wrong question, "404" for an unknown name.
    """

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
