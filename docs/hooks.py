"""Adds to the site what no page says: options of commands, and files of the repository that pages link to."""

from __future__ import annotations

import argparse
import posixpath
import re
from pathlib import Path

from griffe import Attribute, ExprCall, Extension
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from nas.cli.main import COMMANDS, make_parser

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((\.\./[^)#\s]+)\)")
OUTSIDE = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=\"?(?:https?:)?//[^>]*|<link[^>]+stylesheet[^>]+//[^>]*>"
)
LANGUAGES = {".py": "python", ".toml": "toml", ".txt": "text", ".csv": "text"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each file outside of docs/ that a page links to."""
    linked = {
        path
        for file in files.documentation_pages()
        for link in LINK.findall(file.content_string)
        if (path := _in_repository(file.src_uri, link))
    }
    for path in sorted(linked):
        text = (ROOT / path).read_text(encoding="utf-8")
        fence = f"````{LANGUAGES.get(Path(path).suffix, 'text')}"
        page = f"# {path}\n\n{fence}\n{text.rstrip()}\n````\n"
        added = File.generated(config, _source_page(path), content=page)
        added.inclusion = added.inclusion.NOT_IN_NAV
        files.append(added)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Lets links to files of the repository lead to their pages; writes the commands where they belong."""

    def to_page(found: re.Match[str]) -> str:
        path = _in_repository(page.file.src_uri, found[1])
        if not path:
            return found[0]
        return f"]({posixpath.relpath(_source_page(path), posixpath.dirname(page.file.src_uri) or '.')})"

    markdown = re.sub(r"^<!-- first\n.*?^-->\n", "", markdown, flags=re.S | re.M)
    return LINK.sub(to_page, markdown).replace("<!-- commands -->", commands())


def on_post_page(output: str, *, page: Page, **_: object) -> str:
    """Refuses a page that a browser could not show without another host."""
    if found := OUTSIDE.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output


def _in_repository(page: str, link: str) -> str:
    """The path of a linked file in the repository, or nothing where it is below docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return "" if path.startswith("docs/") or not (ROOT / path).is_file() else path


def _source_page(path: str) -> str:
    return f"source/{path}.md"


def commands() -> str:
    """Every command with its arguments and options, as the parser has them."""
    _, parsers = make_parser()
    return "\n\n".join(_command(name, parsers[name]) for name in COMMANDS)


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    lines = [f"## nas {name}", f"{parser.description}", f"```text\n{parser.usage}\n```"]
    for group in parser._action_groups:
        rows = [_row(action) for action in group._group_actions if action.dest != "help"]
        if rows:
            title = {"positional arguments": "arguments", "options": "general"}.get(group.title, group.title)
            lines.append("\n".join((f"| {title} | |", "|---|---|", *rows)))
    return "\n\n".join(lines)


def _row(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    shown = ", ".join(f"{name}{value}" for name in action.option_strings) or str(
        action.metavar or action.dest
    )
    words = str(action.help or "") % {"default": action.default, "prog": "nas"}
    return f"| `{shown}` | {_escaped(words)} |"


def _escaped(words: str) -> str:
    """The words of a help text inside a cell of a table."""
    return re.sub(r"([|*_])", r"\\\1", words.replace("<", "&lt;").replace(">", "&gt;"))


class Options(Extension):
    """Shows a field that is declared by `nas.options.option` with its default alone."""

    def on_attribute_instance(self, *, attr: Attribute, **_: object) -> None:
        """Takes the default out of the call."""
        call = attr.value
        if isinstance(call, ExprCall) and str(call.function) == "option":
            attr.value = call.arguments[0]
