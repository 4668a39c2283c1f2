"""What the site needs beyond ``docs``: the pages outside of it, and links that hold in both places.

In the repository links lead from file to file. On the site the pages below have names of their own, and a
file that is no page, such as a test, is named without a link.
"""

from __future__ import annotations

import posixpath
import re
import runpy
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docker/README.md": "docker.md",
}
"""The pages outside of ``docs`` by their names on the site."""

_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the theme loads for a search without a server. A copy is beside this file: no network is needed."""

_SHIM_HERE = "assets/iframe-worker.js"

_STYLE, _SCRIPT = "assets/site.css", "assets/site.js"
_CODE = re.compile(r"<code>([^<\n]+)</code>")
_WORD = re.compile(r"\S*-\S*")
_NARROWEST = 36
"""Characters of code that fit the narrowest window, and are not to be broken at a hyphen."""

_INSIDE = {name: path for path, name in OUTSIDE.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the style, the script and the version, which leads to what has changed."""
    version = runpy.run_path(str(ROOT / "pytest_etcdtls" / "_version.py"))["__version__"]
    config.extra_css.append(_STYLE)
    config.extra_javascript.append(_SCRIPT)
    config.copyright = f'pytest-etcdtls {version}: <a href="changelog.html">what has changed</a>. Apache-2.0'
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of ``docs``, the style and scripts."""
    for name in (_SHIM_HERE, _STYLE, _SCRIPT):
        text = (ROOT / ".ci" / posixpath.basename(name)).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    name = page.file.src_uri
    source = _INSIDE.get(name, f"docs/{name}")

    def link(found: re.Match[str]) -> str:
        image, text, target, fragment = found.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = OUTSIDE.get(path, path.removeprefix("docs/"))
        if path in OUTSIDE or files.get_file_from_path(there) is not None:
            return f"{image}[{text}]({posixpath.relpath(there, posixpath.dirname(name) or '.')}{fragment})"
        if not (ROOT / path).exists():
            return found[0]  # for mkdocs to report
        return text if "`" in text or text == target else f"{text} (`{path}`)"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mark the words of code that are not to be broken."""

    def word(found: re.Match[str]) -> str:
        return found[0] if len(found[0]) > _NARROWEST else f'<span class="whole">{found[0]}</span>'

    return _CODE.sub(lambda code: f"<code>{_WORD.sub(word, code[1])}</code>", html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load that script from the site itself, and name what the theme leaves without a name."""
    return _named(output).replace(_SHIM, get_relative_url(_SHIM_HERE, page.url))


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """Do so on the page for what is not found."""
    return _named(output).replace(_SHIM, "/" + _SHIM_HERE)


def _named(output: str) -> str:
    for place, name in (
        (' role="dialog"', "Search"),
        (' id="__search"', "Search"),
        (' id="__drawer"', "Menu"),
    ):
        output = output.replace(place, f'{place} aria-label="{name}"')
    return output
