import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest

from nas.cli.main import main
from nas.report.printing import Column, Fact, Report, Table, emit, make_console
from nas.values import harmless

HOSTILE = "cat\x1b]0;owned\x07\x1b[31m\u202egnp.exe\x9b2J\r\ud800"


def printed(report, *, as_json):
    with redirect_stdout(io.StringIO()) as output:
        emit(report, as_json=as_json, console=None if as_json else make_console())
    return output.getvalue()


def report():
    table = Table(
        key="rows", title=HOSTILE, columns=(Column(key="name", heading=HOSTILE),), rows=({"name": HOSTILE},)
    )
    return Report(
        title=HOSTILE,
        facts=(Fact(key="name", label=HOSTILE, value=HOSTILE),),
        tables=(table,),
        notes=(HOSTILE, "two\nlines of Ä, 日本語 and 🐈"),
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_control_characters_of_names_are_shown_escaped(as_json):
    text = printed(report(), as_json=as_json)
    assert harmless(text) == text
    assert ("\\u001b" if as_json else "\\x1b") in text
    assert "🐈" in text or as_json


def test_json_says_the_same_name_escaped():
    assert json.loads(printed(report(), as_json=True))["name"] == HOSTILE


def test_letters_line_breaks_and_tabs_are_left_as_they_are():
    text = "Ä\u00a0日本語 🐈\n\ta"
    assert harmless(text) == text


def test_a_mistake_is_told_without_the_control_characters_of_its_file(tmp_path):
    with redirect_stderr(io.StringIO()) as output:
        assert main(["show", str(tmp_path / "a\x1b[2Jb")]) == 2
    assert "\x1b" not in output.getvalue()
    assert "\\x1b[2Jb" in output.getvalue()
