"""The grammar of block strings: the dialects, their fields, and the rule for the value of each key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from search_spaces.context import require_kernel, require_se_ratio
from search_spaces.errors import SpaceError, located, require_integer, require_one_of
from search_spaces.ops import MBConv
from search_spaces.stages import MOST_CHANNELS, MOST_REPEATS

DIALECTS = {"mnasnet": "MnasNet's", "timm": "timm's"}
"""The dialects, and what messages call them."""

EXAMPLES = "'r2_k3_s22_e6_i16_o24_se0.25' (MnasNet's dialect) or 'ir_r2_k3_s2_e6_c24_se0.25' (timm's)"

TIMM_ACTIVATIONS = {"relu": "nre", "relu6": "nr6", "hard_swish": "nhs", "swish": "nsw"}
"""The activations that timm's decoder has a word for, of those that there are here."""

TIMM_ALONE = ("uir", "mha", "mqa")
"""Kinds of block that timm's decoder knows and that no op here is."""

_WORDS = {
    "noskip": ("skip", "none"),
    "skip": ("skip", "identity"),
    **{word: ("n", kind) for kind, word in TIMM_ACTIVATIONS.items()},
}
"""Fields without a number: what each decides, and how."""

_TIMM_WORDS = ("skip", "noskip", *TIMM_ACTIVATIONS.values())

NEEDED = {
    "mnasnet": ("r", "k", "s", "e", "i", "o"),
    "ds": ("r", "k", "s", "c"),
    "dsa": ("r", "k", "s", "c"),
    "ir": ("r", "k", "s", "e", "c"),
    "er": ("r", "k", "s", "e", "c"),
    "cn": ("r", "k", "s", "c"),
}
"""Fields that a kind of block must have; a string of timm's begins with its kind."""

OPTIONAL = {
    "mnasnet": ("se", "c", "a", "noskip"),
    "ds": ("e", "se", *_TIMM_WORDS),
    "dsa": ("e", "se", *_TIMM_WORDS[1:]),
    "ir": ("se", *_TIMM_WORDS),
    "er": ("se", *_TIMM_WORDS),
    "cn": ("e", *_TIMM_WORDS),
}
"""Fields that it may have beside those."""

_require_channels = partial(require_integer, "channels", least=1, most=MOST_CHANNELS)
_LAWS: Mapping[str, Callable[[object], None]] = {
    "r": partial(require_integer, "repeats", least=1, most=MOST_REPEATS),
    "k": require_kernel,
    "s": lambda stride: require_one_of("stride", stride, (1, 2)),
    "e": lambda expand: MBConv(expand_ratio=expand).check(),  # type: ignore[arg-type]
    "i": _require_channels,
    "o": _require_channels,
    "c": _require_channels,
    "se": require_se_ratio,
}
"""The rule for the number behind each key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockString:
    """A block string, split into its fields.

    Attributes:
        place: Stage and string, for messages.
        kind: One of `NEEDED`.
        fields: Every field, by its key or by what its word decides ("skip", or "n" for the activation).
        is_later: Whether it stands in one of timm's lists and is not the first there.
    """

    place: str
    kind: str
    fields: Mapping[str, str]
    is_later: bool

    def whole(self, key: str) -> int:
        """The integer behind a key.

        Raises:
            SpaceError: It is none, or is not valid; so do the other readers.
        """
        return self._whole_number(key, self._text(key))

    def number(self, key: str, default: int | float) -> int | float:
        """The number behind a key, an integer where it is whole."""
        if key not in self.fields:
            return default
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", self._text(key)):
            raise self.mistake(key, "must be followed by a number such as 6 or 0.25")
        value = float(self._text(key))
        self._check(key, value)
        return int(value) if value == int(value) else value

    def stride(self) -> int:
        """The step, which MnasNet's dialect may say for height and width."""
        text = self._text("s")
        if self.kind == "mnasnet" and len(text) == 2:
            if text[0] != text[1]:
                raise self.mistake("s", "must say the same step for height and width, such as s22")
            text = text[0]
        return self._whole_number("s", text)

    def switch(self, key: str) -> int | None:
        """The 0 or 1 behind a key; None where the key is not there."""
        if key not in self.fields:
            return None
        if self._text(key) not in ("0", "1"):
            raise self.mistake(key, "must be followed by 0 or 1")
        return int(self._text(key))

    def word(self, what: str) -> str | None:
        """What a word decides; None where no word does."""
        return _WORDS[self.fields[what]][1] if what in self.fields else None

    def mistake(self, key: str, rule: str) -> SpaceError:
        """What is wrong with a field."""
        return SpaceError(f"`{key}` {rule}, but got `{self.fields[key]}` in {self.place}", field=key)

    def _text(self, key: str) -> str:
        return self.fields[key].removeprefix(key)

    def _whole_number(self, key: str, text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text):
            raise self.mistake(key, "must be followed by a whole number of at most nine digits")
        self._check(key, int(text))
        return int(text)

    def _check(self, key: str, value: float) -> None:
        with located(f"field `{self.fields[key]}` of {self.place}"):
            _LAWS[key](value)


def split_all(block_strings: object) -> Iterator[BlockString]:
    """Splits every string of a list, or of timm's lists in a list.

    Raises:
        SpaceError: There is none, or one is in neither dialect or in another than the first, lacks a field,
            or has an unknown one or one twice.
    """
    first = None
    for number, (text, is_nested, is_later) in enumerate(_flat(block_strings), start=1):
        said = _split(text, f"stage{number} {text!r}", is_later=is_later)
        dialect = "mnasnet" if said.kind == "mnasnet" else "timm"
        first = first or dialect
        if dialect != first:
            raise SpaceError(
                f"all strings must be in one dialect, but the first is in {DIALECTS[first]}, and in "
                f"{DIALECTS[dialect]} is {said.place}",
                field="block_strings",
            )
        if is_nested and dialect == "mnasnet":
            raise SpaceError(
                f"only timm's strings may stand in lists of their own, but so does {said.place}",
                field="block_strings",
            )
        yield said


def _flat(block_strings: object) -> Iterator[tuple[object, bool, bool]]:
    """Every string, whether it stands in a list of its own, and whether behind another one there."""
    if not isinstance(block_strings, list | tuple) or not block_strings:
        raise SpaceError(
            f"block strings must be a list of at least one such as {EXAMPLES}, but got {block_strings!r}",
            field="block_strings",
        )
    for item in block_strings:
        if not isinstance(item, list | tuple):
            yield item, False, False
        elif item:
            yield from ((text, True, index > 0) for index, text in enumerate(item))
        else:
            raise SpaceError(
                "a list within the list of block strings must not be empty: leave it out",
                field="block_strings",
            )


def _split(text: object, place: str, *, is_later: bool) -> BlockString:
    """Splits one string, and checks that its fields are those of its kind."""
    fields = text.split("_") if isinstance(text, str) else [""]
    if fields[0] in TIMM_ALONE:
        raise SpaceError(
            f"no op here is timm's `{fields[0]}`: use ds, dsa, ir, er or cn in {place}", field="block_strings"
        )
    kind = fields[0] if fields[0] in NEEDED and fields[0] != "mnasnet" else "mnasnet"
    if kind == "mnasnet" and not re.fullmatch("noskip|[a-z]{1,2}[0-9].*", fields[0]):
        raise SpaceError(
            f"a block string must be one such as {EXAMPLES}, but got {place}", field="block_strings"
        )
    known = (*NEEDED[kind], *OPTIONAL[kind])
    found: dict[str, str] = {}
    for field in fields if kind == "mnasnet" else fields[1:]:
        name = field if field in _WORDS else re.split("[0-9]", field)[0]
        if name not in known or (name in _WORDS and name != field):
            keys, words = (", ".join(n for n in known if (n in _WORDS) is w) for w in (False, True))
            raise SpaceError(
                f"a field must be one of {keys} with a number behind it, or {words}, but got `{field}` in "
                f"{place}",
                field="block_strings",
            )
        key = _WORDS[field][0] if field in _WORDS else name
        if key in found:
            raise SpaceError(
                f"a field must stand once, but got `{found[key]}` and `{field}` in {place}",
                field="block_strings",
            )
        found[key] = field
    for key in NEEDED[kind]:
        if key not in found:
            raise SpaceError(
                f"`{key}` must be there, with a number behind it, but is missing in {place}", field=key
            )
    return BlockString(place=place, kind=kind, fields=found, is_later=is_later)
