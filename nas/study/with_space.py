"""Opens a study together with the space that it searches."""

from __future__ import annotations

from nas.errors import SpaceArgumentError, StudyError
from nas.reading import parse_json
from nas.spaces import find_space, is_built_in
from nas.study.study import Study, open_study
from search_spaces import SpaceError


def open_with_space(folder: str) -> Study:
    """Opens a study with its space: a built-in one, or the user's own where its settings name a file.

    Raises:
        StudyError: There is no study, or its journal cannot be read.
        SpaceArgumentError: The user's own file is gone or does not work any more.
    """
    study = open_study(folder)
    text = str(study.settings.get("space") or study.provenance.space_name)
    if not len(study.table) or not (":" in text or is_built_in(text)):
        return study
    try:
        space = find_space(text).make(**_shape(study), width=study.settings.get("width"))
        return study.with_space(space)
    except (SpaceArgumentError, SpaceError):
        if ":" in text:
            raise
        return study  # another space of a built-in one's name


def open_to_show(folder: str) -> tuple[Study, str]:
    """Opens a study with its space, or without it where the file of the user's own is gone; and says why.

    Raises:
        StudyError: There is no study, or its journal cannot be read.
    """
    try:
        return open_with_space(folder), ""
    except (SpaceArgumentError, SpaceError) as error:
        return open_study(folder), f"without its space, which says what matters: {error}"


def _shape(study: Study) -> dict[str, int]:
    try:
        data = parse_json(study.trial(0).network_json)
        return {name: data[name] for name in ("resolution", "num_classes", "in_channels")}
    except (ValueError, TypeError, KeyError) as error:
        raise StudyError(
            f"the first network of {study.folder} cannot be read ({error!r}): restore its journal from a copy"
        ) from error
