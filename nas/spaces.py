"""Finds the search space that a user names: a built-in one, or `file.py:name` of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from nas.errors import SpaceArgumentError
from nas.own_files import Own, Wanted, accepted, find_own, is_own
from nas.units import hint
from search_spaces import SearchSpace
from search_spaces.choices import Choice
from search_spaces.families import (
    efficientnet,
    efficientnet_v2,
    mnasnet,
    mobilenet_v3,
    nas_bench_macro,
    resnet,
    small,
)
from search_spaces.families.efficientnet_v2 import AROUND as EFFICIENTNETS_V2
from search_spaces.families.mobilenet_v3 import AROUND as MOBILENETS_V3
from search_spaces.families.resnet import AROUND as RESNETS

BUILT_IN: Mapping[str, Callable[..., SearchSpace]] = {
    "mnasnet": mnasnet,
    "efficientnet": efficientnet,
    "efficientnet_v2": efficientnet_v2,
    "mobilenet_v3": mobilenet_v3,
    "resnet": resnet,
    "nas_bench_macro": nas_bench_macro,
    "small": small,
}

VARIANTS: Mapping[str, Callable[..., SearchSpace]] = {
    "mnasnet_a1": partial(mnasnet, around="mnasnet_a1"),
    "mnasnet_pool": partial(mnasnet, pooling_skip=True),
    "mnasnet_vertex": partial(mnasnet, form="vertex"),
    "efficientnet_v2_width": partial(efficientnet_v2, with_width=True),
    **{name: partial(efficientnet_v2, around=name) for name in EFFICIENTNETS_V2},
    **{name: partial(mobilenet_v3, around=name) for name in MOBILENETS_V3},
    **{name: partial(resnet, around=name) for name in RESNETS},
    **{f"{name}_flat": partial(make, flat=True) for name, make in BUILT_IN.items()},
}
"""Forms of the built-in spaces by names of their own; other forms are a line in a user's own file."""


WANTED = Wanted(
    field="space",
    what="search space",
    is_ready=lambda value: isinstance(value, SearchSpace),
    error=SpaceArgumentError,
)
"""What a user's own file is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSource:
    """A space that was found, before it is known which images it is for.

    Attributes:
        text: What the user typed.
        maker: Makes a built-in space from the keyword arguments it accepts; None for the user's own.
        own: The user's own; None for a built-in space.
    """

    text: str
    maker: Callable[..., SearchSpace] | None = None
    own: Own | None = None

    @property
    def space(self) -> SearchSpace | None:
        """The ready-made space; None where it has to be made."""
        return None if self.own is None or self.own.is_made else self.own.value

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """The user's own modules, which workers cannot import and must be sent by value."""
        return () if self.own is None else (self.own.module,)

    @property
    def resolution(self) -> int | None:
        """Image side in pixels that a ready-made space insists on; None where it can be chosen."""
        return None if self.space is None else image_side(self.space)

    def make(
        self, *, resolution: int, num_classes: int, in_channels: int, width: float | None = None
    ) -> SearchSpace:
        """The space for images of this size, number of channels and number of classes.

        Raises:
            SpaceArgumentError: A ready-made space is for other images, or a function does not make a space.
            SpaceError: The space is not valid.
        """
        wanted = {"resolution": resolution, "num_classes": num_classes, "in_channels": in_channels}
        if self.space is not None:
            space = self.space
            if width is not None:
                raise SpaceArgumentError(
                    f"--width needs a space that is made by a function, but {self.text} is not",
                    field="width",
                )
        else:
            arguments: dict[str, Any] = {**wanted, **({} if width is None else {"width": width})}
            space = self._call(arguments)
        for name, value in wanted.items():
            has = getattr(space.template, name)
            side = image_side(space) if name == "resolution" else None
            if (has if side is None else side) != value:
                other = "choose other images" if side is None else f"read the images with resolution={side}"
                raise SpaceArgumentError(
                    f"the space {self.text} has {name}={has!r}, but the images need {name}={value}: make it "
                    f"a function that takes {name}, or {other}",
                    field="space",
                )
        return space

    def _call(self, arguments: Mapping[str, Any]) -> SearchSpace:
        maker = self.maker if self.own is None else self.own.value
        assert maker is not None, "a space is built in, or the user's own"
        given = accepted(maker, arguments)
        if "width" in arguments and "width" not in given:
            raise SpaceArgumentError(
                f"--width was given, but {self.text} takes no argument named width", field="width"
            )
        space = maker(**given) if self.own is None else self.own.make(arguments)
        if not isinstance(space, SearchSpace):
            raise SpaceArgumentError(
                f"{self.text} must return a search_spaces.SearchSpace, but returned {type(space).__name__}",
                field="space",
            )
        return space


def image_side(space: SearchSpace) -> int:
    """Height and width of the images for a space, pixels: its resolution, or the largest of a choice."""

    def largest(value: Any) -> int:
        return max(map(largest, value.options)) if isinstance(value, Choice) else int(value)

    return largest(space.template.resolution)


def is_built_in(text: str) -> bool:
    """Whether a built-in space or variant has this name."""
    return text in BUILT_IN or text in VARIANTS


def find_space(text: str) -> SpaceSource:
    """Finds a built-in space or variant by name, or the space or function `name` in a file by `file.py:name`.

    Raises:
        SpaceArgumentError: There is no such space, file or name; the message gives near matches.
    """
    by_name = {**BUILT_IN, **VARIANTS}
    if text in by_name:
        return SpaceSource(text=text, maker=by_name[text])
    if not is_own(text):
        raise SpaceArgumentError(
            f"there is no space {text!r}, nor is it file.py:name of your own: {hint(text, by_name)}",
            field="space",
        )
    return SpaceSource(text=text, own=find_own(text, WANTED))
