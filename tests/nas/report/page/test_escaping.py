import json

import pytest

from nas.report.page.escaping import attribute, chart_text, content, harmless_figure, script_json, visible

MARKUP = "<img src=x onerror=alert(1)>&amp;\"'"


def test_markup_is_text_between_tags_and_in_attributes():
    assert content(MARKUP) == "&lt;img src=x onerror=alert(1)&gt;&amp;amp;&quot;&#x27;"
    assert attribute(MARKUP) == content(MARKUP)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\0", "a\\x1b[31mb\\x00"),
        ("line\nbreak", "line\\x0abreak"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\U000e0000", "\\U000e0000"),
        ("naïve 猫 \u200d", "naïve 猫 \u200d"),
    ],
)
def test_characters_that_are_not_seen_are_shown_as_their_numbers(text, shown):
    assert visible(text) == shown


def test_a_log_keeps_its_line_breaks():
    assert content("a\n\tb\x07", keep="\n\t") == "a\n\tb\\x07"


def test_text_from_right_to_left_is_set_apart():
    assert content("שלום 3") == "<bdi>שלום 3</bdi>"
    assert attribute("שלום") == "שלום"
    assert chart_text("سير") == "\u2068سير\u2069"


def test_no_string_of_a_figure_is_markup_to_plotly_but_line_breaks_are():
    figure = {"data": [{"name": "<b>x</b>", "text": ["a\nb", "&lt;"], "x": (1, 2.5, None)}]}
    assert harmless_figure(figure) == {
        "data": [{"name": "&lt;b&gt;x&lt;/b&gt;", "text": ["a<br>b", "&amp;lt;"], "x": [1, 2.5, None]}]
    }


def test_data_cannot_end_the_script_that_it_stands_in():
    data = {"</script><!--": ["\u2028&\ud800", float("nan"), float("inf")]}
    text = script_json(data)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script><!--": ["\u2028&\ud800", None, None]}
