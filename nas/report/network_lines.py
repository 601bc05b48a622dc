"""The stages of a network as a picture says them: one line each, in the words of the papers."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces import Network, SpaceError, describe

TIMES = "\N{MULTIPLICATION SIGN}"

MOST_LETTERS = 44
"""Longest name of an operator that fits into its box."""

UNREADABLE = (SpaceError, ValueError, KeyError, TypeError)
"""What the network of a trial raises where it has ops of the user's own, or of an earlier version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    """One stage in words.

    Attributes:
        stage: Its name.
        operator: What it is made of, such as `MBConv6`.
        details: The rest of that, such as `5x5, SE 0.25`.
        layers: How often it is repeated.
        channels: Channels of its output.
        resolution: Side of its map in pixels, before and after.
        share: Share of the network's multiply-adds.
        macs: Multiply-adds of one image.
        params: Parameters.
    """

    stage: str
    operator: str
    details: str
    layers: int
    channels: int
    resolution: str
    share: float
    macs: int
    params: int


def stage_lines(network: Network) -> tuple[StageLine, ...]:
    """The network's stages from image to logits.

    Raises:
        SpaceError: The network cannot be lowered.
    """
    rows = describe(network)
    macs = sum(row.macs for row in rows) or 1
    sides = [row.resolution for row in rows] + [1]
    lines = []
    for row, before, after in zip(rows, sides[:-1], sides[1:], strict=True):
        operator, details = _words(row.operator)
        details += f" to {row.channels}" if row is rows[-1] else ""
        lines.append(
            StageLine(
                stage=row.stage,
                operator=operator,
                details=details,
                layers=row.layers,
                channels=row.channels,
                resolution=str(before) if before == after else f"{before} → {after}",
                share=row.macs / macs,
                macs=row.macs,
                params=row.params,
            )
        )
    return tuple(lines)


def _words(label: str) -> tuple[str, str]:
    """Parts an op's label into its name and the rest, as papers write it: `MBConv6`, `5×5, SE 0.25`.

    A user's own op without a label of its own (`Shuffle(groups=2, ratio=3)`) stays as it is.
    """
    if "(" in label:
        return (label if len(label) <= MOST_LETTERS else f"{label[: MOST_LETTERS - 1]}…"), ""
    name, *rest = label.split(", ")
    return name.replace("Conv1x1", f"Conv 1{TIMES}1"), ", ".join(_word(part) for part in rest)


def _word(part: str) -> str:
    if part.startswith("k") and part[1:2].isdigit():
        return part[1:].replace("x", TIMES)
    if part.startswith("se") and part[2:3].isdigit():
        return f"SE {part[2:]}"
    return {"noskip": "no skip"}.get(part, part)
