"""The one exception of this package, and the checks of plain values that raise it."""

from __future__ import annotations


class SpaceError(ValueError):
    """A network or a search space is not valid.

    Args:
        message: The rule, the value and the remedy.
        field: Name of the argument or field that is wrong, as Python spells it; empty where the mistake is
            not in one of them.
    """

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def require_integer(name: str, value: object, *, least: int, most: int) -> None:
    """Checks that a field is an integer in a closed range.

    Raises:
        SpaceError: The value is of another type (a bool too) or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SpaceError(
            f"`{least} <= {name} <= {most}` must hold for an integer, but got {name}={value!r}", field=name
        )


def require_fraction(name: str, value: object) -> None:
    """Checks that a field is a real number in [0, 1).

    Raises:
        SpaceError: It is not (NaN fails too).
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise SpaceError(f"`0 <= {name} < 1` must hold, but got {name}={value!r}", field=name)


def require_one_of(name: str, value: object, options: tuple[object, ...]) -> None:
    """Checks that a field is one of the options.

    Raises:
        SpaceError: It is not.
    """
    if not any(value is option or (type(value) is type(option) and value == option) for option in options):
        raise SpaceError(f"`{name} in {options}` must hold, but got {name}={value!r}", field=name)


class located:  # noqa: N801 - reads as a statement
    """Adds the place to a SpaceError raised inside: `with located("stage3"):`."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, SpaceError):
            raise SpaceError(f"{error} in {self.place}", field=error.field) from None
