"""What an attack found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """A row of the table. what: was tried, `tried` times; of these `refused` by a documented error, `right`: accepted,
    and every check of it held; `wrong`: the rest, each printed as it was found. note: seed, limits, worst figures."""

    part: str
    what: str
    tried: int
    refused: int
    right: int
    wrong: int
    note: str = ""
