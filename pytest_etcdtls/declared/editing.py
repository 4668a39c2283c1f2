"""Changes settings in the text of a declaration, and makes a unified diff of it.

A declaration is somebody's file: its order, comments and indentation are kept, and only the lines of the
changed settings differ. So the text is edited, not written anew from what was read of it. Each setting knows
its line (:class:`SourceLine`), and there it is found as it is spelled: a list item, a word of a command, an
assignment, a key. A new setting goes behind a related one, in its file and in its form.

Text has more forms than are edited here. What makes that safe is the last step: the changed text is read as
the declaration was, and must have exactly the settings that were meant. Otherwise there is no diff
(:class:`NotEditableError`), and the remedy remains a sentence.

A diff is printed and stored, so its lines must have no secret. Context lines that may have one are left out;
``patch`` needs none.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml
from msgspec import Struct

from pytest_etcdtls.declared.declaration import TRUE, Change, Declaration, Form, Setting, Via, masked
from pytest_etcdtls.declared.flags import (
    DURATIONS,
    FLAG_OF,
    LISTS,
    SECTIONS,
    SIGNED,
    SWITCHES,
    UNSIGNED,
    top_level_flag,
    variable_of,
)
from pytest_etcdtls.declared.reading import MAXIMUM_SIZE, read_declarations
from pytest_etcdtls.errors import NotEditableError, UnreadableFileError, UsageError
from pytest_etcdtls.untrusted import read_regular


class Edited(Struct, frozen=True):
    """A changed declaration.

    Attributes:
        declaration: as it is read from the changed texts.
        texts: the text before and after, by the path of the file.
    """

    declaration: Declaration
    texts: Mapping[str, tuple[str, str]]


def edit(declaration: Declaration, changes: Iterable[Change], pki_dir: Path | None = None) -> Edited:
    """Return the declaration with these changes.

    Args:
        declaration: as it was read from its file.
        changes: what to change; the last one of a setting counts.
        pki_dir: ``--etcd-pki-dir``, with which it was read.

    Raises:
        NotEditableError: if the text has a form that is not edited.
    """
    wanted = [
        one for one in {(one.name, one.via): one for one in changes}.values() if _differs(one, declaration)
    ]
    editor = _Editor(declaration, frozenset(one.name for one in wanted if one.value is None))
    # What is removed may be the place of what is added.
    for change in sorted(wanted, key=lambda one: (one.value is None, one.name if editor.sorted else "")):
        editor.apply(change)
    texts = {file: (draft.before, draft.text) for file, draft in editor.drafts.items() if draft.changed}
    changed = {file: after for file, (_, after) in texts.items()}
    path = Path(declaration.source)
    try:
        after = {one.pod: one for one in read_declarations(path, pki_dir=pki_dir, changed=changed)}
        before = read_declarations(path, pki_dir=pki_dir) if len(after) > 1 else (declaration,)
    except UsageError as error:
        raise NotEditableError(f"the changed text cannot be read: {error}") from error
    if [*after] != [one.pod for one in before]:
        raise NotEditableError("another pod changed with it")
    _confirm(declaration, after[declaration.pod], wanted)
    for other in before:
        if other.pod != declaration.pod:
            _confirm_other(other, after[other.pod], declaration, wanted)
    return Edited(after[declaration.pod], texts)


def unified_diff(texts: Mapping[str, tuple[str, str]]) -> str:
    """Return a unified diff of files, for ``patch -p1`` in the working directory or, of others, in ``/``.

    Raises:
        NotEditableError: if a changed line may have a secret.
    """
    return "".join(_diff_of(file, before, after) for file, (before, after) in sorted(texts.items()))


def patch_directory(files: Iterable[str]) -> str:
    """Return the directory in which ``patch -p1`` applies a diff of these files: ``.`` or ``/``."""
    return "." if all(_below_here(os.path.realpath(file)) for file in files) else "/"


def _below_here(path: str) -> bool:
    return path.startswith(os.path.realpath(".").rstrip("/") + "/")


def _diff_of(file: str, before: str, after: str) -> str:
    path = os.path.realpath(file)  # patch does not follow symbolic links
    name = os.path.relpath(path) if _below_here(path) else path.lstrip("/")
    for context in (3, 2, 1, 0):
        lines = list(
            difflib.unified_diff(
                _lines(before),
                _lines(after),
                _quoted(f"a/{name}"),
                _quoted(f"b/{name}"),
                n=context,
            )
        )
        if not any(_may_have_a_secret(line[1:]) for line in lines[2:]):
            return "".join(
                line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
            )
    raise NotEditableError(f"a changed line of {file} may have a secret")


def _quoted(name: str) -> str:
    """Return a file's name as ``patch`` reads it, in quotation marks with C's escapes if it needs them."""
    if re.fullmatch(r"[\w./@:+,=-]+", name, re.ASCII):
        return name
    escaped = "".join(
        chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\{octet:03o}"
        for octet in os.fsencode(name)
    )
    return f'"{escaped}"'


_PAIR = re.compile(
    r"(?<![\w./-])(?:-*(?P<n>[A-Za-z][\w.-]*)(?=\s*[=:]\s*[\"']?(?P<v>[^\s\"']+))"
    r"|--?(?P<flag>[A-Za-z][\w.-]*)(?=[ \t]+[\"']?(?P<word>[^\s\"']+)))"
)


def _may_have_a_secret(line: str) -> bool:
    if "PRIVATE KEY" in line or re.search(r"[A-Za-z0-9+/=]{64}", line):
        return True
    pairs = ((one["n"] or one["flag"], one["v"] or one["word"]) for one in _PAIR.finditer(line))
    return any(masked(FLAG_OF.get(name, name), value) != value for name, value in pairs)


def _differs(change: Change, declaration: Declaration) -> bool:
    given = _given(declaration, change)
    if change.value is None:
        return bool(given)
    setting = declaration.settings.get(change.name)
    return setting is None or not _equal(setting.value, change.value) or change.via not in (None, setting.via)


def _equal(one: str, other: str) -> bool:
    return one == other or (one in TRUE and other in TRUE)


def _given(declaration: Declaration, change: Change) -> list[Setting]:
    """Return every place in which a setting is given, also where it has no effect."""
    started = declaration.started_with
    every = (
        *declaration.settings.values(),
        *declaration.overridden,
        *declaration.shadowed,
        *declaration.hidden,
        *declaration.unknown,
        *(one for one in started.arguments if isinstance(one, Setting) and one.name == "config-file"),
        *(one for one in started.variables if one.name == "config-file"),
    )
    return [one for one in every if one.name == change.name and change.via in (None, one.via)]


def _confirm(before: Declaration, after: Declaration, changes: Sequence[Change]) -> None:
    """Check that the changes, and nothing else, are in a declaration.

    Raises:
        NotEditableError: if they are not.
    """
    changed = {one.name for one in changes}
    for change in changes:
        setting = after.settings.get(change.name)
        if change.value is None:
            if _given(after, change):
                raise NotEditableError(f"{change.name} is still given")
        elif setting is None or not _equal(setting.value, change.value):
            raise NotEditableError(f"{change.name} is not in force where it was written")
    others = [
        {name: one.value for name, one in read.settings.items() if name not in changed}
        for read in (before, after)
    ]
    moved = {one.name for one in (*before.hidden, *before.shadowed)}
    if {*others[0].items()} - {*others[1].items()} or {*others[1]} - {*others[0]} - moved:
        raise NotEditableError("another setting changed with it")
    if len(after.mistakes) > len(before.mistakes):
        raise NotEditableError(after.mistakes[-1].text)


def _values(declaration: Declaration) -> list[tuple[str, str]]:
    every = (*declaration.settings.values(), *declaration.hidden, *declaration.shadowed, *declaration.unknown)
    return sorted((one.spelled, one.value) for one in (*every, *declaration.overridden))


def _confirm_other(
    before: Declaration, after: Declaration, edited: Declaration, changes: Sequence[Change]
) -> None:
    """Check that a change of one pod is right for another one in the file, which has the same lines or none.

    Raises:
        NotEditableError: if it is not, as where a StatefulSet has the URL of each pod in one line.
    """
    if _values(before) == _values(after):
        return
    for change in changes:
        of_both = [one.text(change.name) for one in (before, edited)]
        names_one = edited.pod.rpartition("/")[2] in (change.value or "") and change.name != "initial-cluster"
        if of_both[0] != of_both[1] or names_one:
            raise NotEditableError(f"{before.pod} has the same line, and another value of {change.name}")
    _confirm(before, after, changes)


def merged(before: str, first: str, second: str) -> str:
    """Return a text with the changes of two changed copies of it.

    Raises:
        NotEditableError: if they change the same lines in different ways.
    """
    lines = _lines(before)
    hunks: dict[tuple[int, int], list[str]] = {}
    for changed in (_lines(first), _lines(second)):
        matcher = difflib.SequenceMatcher(None, lines, changed, autojunk=False)
        for tag, start, end, begin, stop in matcher.get_opcodes():
            if tag != "equal" and hunks.setdefault((start, end), changed[begin:stop]) != changed[begin:stop]:
                raise NotEditableError("two members need different changes of one line")
    result, position = list[str](), 0
    for (start, end), replacement in sorted(hunks.items()):
        if start < position:
            raise NotEditableError("two members need different changes of one line")
        result += [*lines[position:start], *replacement]
        position = end
    return "".join([*result, *lines[position:]])


def _lines(text: str) -> list[str]:
    """Return the lines with their ends. Only a line feed ends one, as for ``patch``."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


class _Draft:
    """The lines of a file while they are changed. Each keeps its original number."""

    def __init__(self, text: str) -> None:
        self.before = text
        self.lines = [[line] for line in _lines(text)]
        """For each original line, what stands in its place."""
        self.end = "\r\n" if "\r\n" in text else "\n"

    @property
    def text(self) -> str:
        return "".join(line for lines in self.lines for line in lines)

    @property
    def changed(self) -> bool:
        return self.text != self.before

    def __getitem__(self, number: int) -> str:
        """Return what stands in the place of a line, without its end; empty if it was removed."""
        lines = self.lines[number]
        return lines[0].rstrip("\r\n") if lines else ""

    def __setitem__(self, number: int, line: str) -> None:
        ending = self.lines[number][0][len(self.lines[number][0].rstrip("\r\n")) :]
        self.lines[number][0] = line + ending

    def end_of(self, number: int) -> str:
        """Return the last line in the place of a line."""
        return self.lines[number][-1] if self.lines[number] else ""

    def append_to(self, number: int, text: str) -> None:
        """Append a text to the last line in the place of a line."""
        line = self.lines[number][-1]
        stripped = line.rstrip()
        self.lines[number][-1] = stripped + text + (line[len(line.rstrip("\r\n")) :])

    def remove(self, number: int) -> None:
        del self.lines[number][:1]

    def insert_below(self, number: int, *lines: str) -> None:
        standing = self.lines[number]
        if standing and not standing[-1].endswith("\n"):
            standing[-1] += self.end
        # What was inserted before and is less indented, a key of the whole file, ends the section of these.
        depth = _depth(lines[0])
        others = (place for place, line in enumerate(standing) if place and _depth(line) < depth)
        place = next(others, len(standing))
        standing[place:place] = [line + self.end for line in lines]

    def indent(self, number: int) -> str:
        line = self[number]
        return line[: len(line) - len(line.lstrip())]

    def block(self, number: int, *, items: bool = False) -> range:
        """Return the numbers of the lines that belong to the key or the item in a line, without itself.

        Args:
            number: of the line.
            items: a list may stand at the indentation of its key.
        """
        depth = len(self.indent(number))
        end = number + 1
        while end < len(self.lines):
            line = self[end]
            inside = len(self.indent(end)) > depth or (
                items and len(self.indent(end)) == depth and line.lstrip().startswith("- ")
            )
            if line.strip() and not inside:
                break
            end += 1
        while end > number + 1 and not self[end - 1].strip():
            end -= 1
        return range(number + 1, end)


_RELATED: Final = (
    *("cert-file", "key-file", "trusted-ca-file", "client-cert-auth", "auto-tls", "client-cert-file"),
    *("client-key-file",),
)
"""The settings of a side, by the name that they have on the client side, in the order of their relation."""


class _Editor:
    """Applies changes to the texts of a declaration."""

    def __init__(self, declaration: Declaration, removed: frozenset[str]) -> None:
        self.declaration = declaration
        self.removed = removed
        self.drafts: dict[str, _Draft] = {}
        self.sorted = _is_sorted(declaration)

    def draft(self, file: str) -> _Draft:
        if file not in self.drafts:
            if not Path(file).is_file():
                raise NotEditableError(f"{file} is not a file that can be changed")
            try:
                text = read_regular(Path(file), MAXIMUM_SIZE).decode("utf-8")
            except (UnreadableFileError, UnicodeDecodeError, OSError, ValueError) as error:
                raise NotEditableError(f"{file} cannot be read as text") from error
            if "\0" in text:
                raise NotEditableError(f"{file} is a copy of /proc/PID/cmdline, which no file is made of")
            self.drafts[file] = _Draft(text)
        return self.drafts[file]

    def apply(self, change: Change) -> None:
        given = _given(self.declaration, change)
        if change.value is None:
            for one in given:
                self._edit(one, None)
            return
        setting = self.declaration.settings.get(change.name)
        if setting is not None and change.via in (None, setting.via):
            self._edit(setting, change.value)
        else:
            self._add(change.name, change.value, change.via)

    def _line(self, setting: Setting) -> tuple[_Draft, int]:
        if setting.place.line is None:
            raise NotEditableError(f"{setting.place} has no lines")
        draft = self.draft(setting.place.file)
        if setting.place.line > len(draft.lines):
            raise NotEditableError(f"{setting.place} is not a line of that file")
        return draft, setting.place.line - 1

    def _edit(self, setting: Setting, value: str | None) -> None:
        draft, number = self._line(setting)
        if setting.via is Via.KEY:
            _edit_key(draft, number, setting, value)
        elif setting.via is Via.VARIABLE and re.match(r"\s*- ", draft[number]):
            _edit_variable_of_pod(draft, number, value)
        else:
            _edit_word(draft, number, setting, value, self.declaration.form)

    def _add(self, name: str, value: str, via: Via | None) -> None:
        """Add a setting behind a related one, in its form."""
        anchor = self._anchor(name, via)
        draft, number = self._line(anchor)
        if anchor.via is Via.KEY:
            _add_key(draft, number, name, value)
        elif anchor.via is Via.VARIABLE:
            _add_variable(draft, number, anchor, name, value)
        else:
            _add_flag(draft, number, anchor, name, value, self.declaration.form)

    def _anchor(self, name: str, via: Via | None) -> Setting:
        if via is None and (self.declaration.config_file or self.declaration.form is Form.YAML):
            via = Via.KEY
        given = [one for one in self.declaration.settings.values() if via in (None, one.via)]
        if via is not Via.KEY:
            given += [one for one in self.declaration.hidden if via in (None, one.via)]
        given = [one for one in given if one.place.line is not None and one.name != "config-file"]
        given = [one for one in given if one.name not in self.removed] or given
        if not given:
            raise NotEditableError(f"no setting is given beside which --{name} can be")
        if self.sorted and via is not Via.KEY:
            smaller = [one for one in given if one.name < name and one.via is Via.FLAG]
            if smaller:
                return max(smaller, key=lambda one: one.place.line or 0)
        # A flag before a variable, which a ConfigMap may have for several pods.
        return max(
            given, key=lambda one: (_relation(one.name, name), one.via is Via.FLAG, one.place.line or 0)
        )


def _relation(one: str, other: str) -> int:
    """Return how closely two settings are related: of one side and both about TLS, or URLs."""
    sides = one.startswith("peer-") == other.startswith("peer-")
    kinds = [name.removeprefix("peer-") in _RELATED for name in (one, other)]
    urls = [name.endswith("-urls") for name in (one, other)]
    files = one.endswith("-file") and other.endswith("-file")
    return 8 * (all(kinds) and sides) + 4 * (all(kinds) or all(urls)) + 2 * files + (kinds[0] == kinds[1])


def _is_sorted(declaration: Declaration) -> bool:
    """Return whether a manifest has its flags in the order of their names, as kubeadm writes them."""
    flags = [one for one in declaration.settings.values() if one.via is Via.FLAG]
    names = [one.name for one in sorted(flags, key=lambda one: one.place.line or 0)]
    return declaration.form is Form.MANIFEST and len(names) > 3 and names == sorted(names)


def _plain_yaml(text: str, quote: str = "") -> str:
    """Return a text as a YAML scalar in these quotation marks, or in single ones where it needs some."""
    if quote == '"':
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if not quote:
        try:
            if yaml.safe_load(f"- {text}") == [text] and yaml.safe_load(f"[{text}]") == [text]:
                return text
        except yaml.YAMLError:
            pass
    return "'" + text.replace("'", "''") + "'"


_ITEM = re.compile(r"(?P<indent>\s*)- (?P<quote>[\"']?)--?[A-Za-z]")


def _edit_word(draft: _Draft, number: int, setting: Setting, value: str | None, form: Form) -> None:
    """Change a flag or a variable that is a word of a line, or the only word of a list item."""
    number = _find(draft, number, setting)
    line = draft[number]
    if setting.via is Via.FLAG and (item := _ITEM.match(line)):
        if "=" not in line and setting.name not in SWITCHES:
            draft.remove(number + 1)  # the value is an item of its own
        if value is None:
            draft.remove(number)
        else:
            draft[number] = f"{item['indent']}- {_plain_yaml(f'--{setting.name}={value}', item['quote'])}"
        return
    matches = list(_word(setting).finditer(line))
    if not matches:
        raise NotEditableError(f"{setting.place}: {setting.spelled} is not a word of that line")
    match = matches[-1]  # of several, the last one counts
    if value is not None:
        draft[number] = line[: match.start()] + _rewritten(match, setting, value, form) + line[match.end() :]
        return
    before, after = line[: match.start()], line[match.end() :]
    if before.rstrip().endswith(",") and "[" in before:
        before = before.rstrip()[:-1]
    rest = (before.rstrip() if after[:1] in ("", " ", "]") else before) + after
    if rest.strip() in ("", "\\", "export") or re.fullmatch(r"\s*Environment\s*=\s*", rest):
        if not line.rstrip().endswith("\\"):
            _end_above(draft, number)
        draft.remove(number)
    else:
        draft[number] = rest


def _end_above(draft: _Draft, number: int) -> None:
    """End the command in the line above, since its last line goes."""
    above = next((one for one in range(number - 1, -1, -1) if draft.lines[one]), None)
    if above is not None and (line := draft.end_of(above)).rstrip().endswith("\\"):
        draft.lines[above][-1] = line.rstrip()[:-1].rstrip() + line[len(line.rstrip("\r\n")) :]


def _find(draft: _Draft, number: int, setting: Setting) -> int:
    """Return the line that has the word: the setting's, or one below it in the same command."""
    word = _word(setting)
    for below in range(number, min(number + 100, len(draft.lines))):
        if word.search(draft[below]):
            return below
    raise NotEditableError(f"{setting.place}: {setting.spelled} is not in that line")


_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s\"']*)"


def _word(setting: Setting) -> re.Pattern[str]:
    """Return the pattern of a word that gives a setting, with its value, in quotation marks or not."""
    if setting.via is Via.VARIABLE:
        name = re.escape(setting.spelled)
        whole = rf"(?P<quote>[\"']){name}=(?:(?!(?P=quote)).)*(?P=quote)"
        return re.compile(rf"(?<![\w.-])(?:{whole}|{name}[ \t]*=[ \t]*{_VALUE})")
    name = f"--?{re.escape(setting.name)}"
    whole = rf"(?P<quote>[\"']){name}(?:=(?:(?!(?P=quote)).)*)?(?P=quote)"
    if setting.name in SWITCHES:
        return re.compile(rf"(?<![\w.=/-])(?:{whole}|{name}(?:={_VALUE})?(?![\w.-]))")
    return re.compile(
        rf"(?<![\w.=/-])(?:{whole}(?:\s*,?\s*[\"'][^-\"'][^\"']*[\"'])?|{name}(?:(?:=|[ \t]+){_VALUE}|$))"
    )


def _rewritten(match: re.Match[str], setting: Setting, value: str, form: Form) -> str:
    """Return a word with a new value, in the quotation marks that it has."""
    quote = match["quote"] or ""
    value = value.replace("%", "%%") if form is Form.UNIT and setting.via is Via.FLAG else value
    if quote:
        return f"{quote}{_spelled(setting)}={value}{quote}"
    inner = re.search(r"[=\s]([\"'])", match[0])
    if inner:
        return f"{_spelled(setting)}={inner[1]}{value}{inner[1]}"
    return f"{_spelled(setting)}={_shell(value)}"


def _spelled(setting: Setting) -> str:
    return setting.spelled if setting.via is Via.VARIABLE else f"--{setting.name}"


def _shell(value: str) -> str:
    return value if re.fullmatch(r"[\w./:,=@%+\[\]-]*", value, re.ASCII) else shlex.quote(value)


def _add_flag(draft: _Draft, number: int, anchor: Setting, name: str, value: str, form: Form) -> None:
    number = _find(draft, number, anchor)
    line = draft[number]
    if item := _ITEM.match(line):
        alone = "=" not in line and anchor.name not in SWITCHES
        new = f"{item['indent']}- {_plain_yaml(f'--{name}={value}', item['quote'])}"
        draft.insert_below(number + alone, new)
        return
    match = _word(anchor).search(line)
    if match is None:
        raise NotEditableError(f"{anchor.place}: {anchor.spelled} is not a word of that line")
    added = Setting(name=name, value=value, spelled=f"--{name}", via=Via.FLAG, place=anchor.place)
    word = _rewritten(match, added, value, form)
    before, after = line[: match.start()], line[match.end() :]
    if not before.strip() and after.strip() in ("", "\\"):
        goes_on = draft.end_of(number).rstrip().endswith("\\")
        has_one_on_each_line = form is Form.COMMAND_LINE and "\\\n" not in draft.text
        if not goes_on and not has_one_on_each_line:
            draft.append_to(number, " \\")
        draft.insert_below(number, before + word + " \\" * goes_on)
    else:
        comma = "," if "[" in before and "]" in after else ""
        draft[number] = f"{line[: match.end()]}{comma} {word}{after}"


def _add_variable(draft: _Draft, number: int, anchor: Setting, name: str, value: str) -> None:
    variable = variable_of(name)
    line = draft[number]
    if item := re.match(r"(\s*)- ", line):
        block = draft.block(number)
        lines = (
            f"{item[1]}- name: {variable}",
            f"{item[1]}  value: {_plain_yaml(value, _quote_of_boolean(value))}",
        )
        draft.insert_below(block[-1] if block else number, *lines)
        return
    match = _word(anchor).search(line)
    if match is None:
        raise NotEditableError(f"{anchor.place}: {anchor.spelled} is not in that line")
    added = Setting(name=name, value=value, spelled=variable, via=Via.VARIABLE, place=anchor.place)
    prefix = line[: match.start()]
    if unit := re.match(r"\s*Environment\s*=", prefix):
        prefix = unit[0]
    draft.insert_below(number, prefix + _rewritten(match, added, value, Form.ENVIRONMENT_FILE))


def _quote_of_boolean(value: str) -> str:
    """Return the quotation mark of a variable's value in a manifest, where every value is a string."""
    return '"' if value in ("true", "false") or value.isdigit() else ""


def _edit_variable_of_pod(draft: _Draft, number: int, value: str | None) -> None:
    block = draft.block(number)
    if value is None:
        for line in (number, *block):
            draft.remove(line)
        return
    for line in block:
        if match := re.match(r"(\s*value:\s*)([\"']?)", draft[line]):
            draft[line] = match[1] + _plain_yaml(value, match[2] or _quote_of_boolean(value))
            return
    raise NotEditableError("the variable has no value on a line of its own")


_KEY = re.compile(r"(?P<head>\s*(?P<q>[\"']?)[\w-]+(?P=q):)(?P<value>\s.*?)?(?P<comment>\s+#.*)?$")


def _edit_key(draft: _Draft, number: int, setting: Setting, value: str | None) -> None:
    match = _KEY.match(draft[number])
    if match is None:
        raise NotEditableError(f"{setting.place}: the key is not on a line of its own")
    for line in draft.block(number, items=True):
        draft.remove(line)
    if value is None:
        draft.remove(number)
        _drop_empty_section(draft, number)
        return
    old = (match["value"] or "").strip()
    quote = old[0] if old[:1] in ("'", '"') else ""
    draft[number] = f"{match['head']} {_of_key(setting.name, value, quote)}{match['comment'] or ''}"


def _of_key(name: str, value: str, quote: str = "") -> str:
    _, key = _key_of(name)
    if key in LISTS:
        return f"[{', '.join(_plain_yaml(one) for one in value.split(','))}]"
    is_number = name in DURATIONS | SIGNED | UNSIGNED and value.isdecimal()
    if name in SWITCHES or value in ("true", "false") or is_number:
        return value
    return _plain_yaml(value, quote)


def _key_of(name: str) -> tuple[str, str]:
    """Return the section of a flag in the configuration file, empty for none, and its key there."""
    for section, keys in SECTIONS.items():
        for key, flag in keys.items():
            if flag == name:
                return section, key
    if top_level_flag(name) is None:
        raise NotEditableError(f"the configuration file has no key for --{name}")
    return "", name


def _section_line(draft: _Draft, section: str) -> int | None:
    return next(
        (
            number
            for number in range(len(draft.lines))
            if re.match(rf"[\"']?{section}[\"']?:\s*(#.*)?$", draft[number])
        ),
        None,
    )


def _drop_empty_section(draft: _Draft, number: int) -> None:
    for section in SECTIONS:
        line = _section_line(draft, section)
        if line is None or not line < number:
            continue
        if not _inner_lines(draft, line):
            draft.remove(line)


def _inner_lines(draft: _Draft, section: int) -> list[int]:
    """Return the lines of a section without blank ones and comments."""
    return [
        one for one in draft.block(section) if draft[one].strip() and not draft[one].lstrip().startswith("#")
    ]


def _add_key(draft: _Draft, number: int, name: str, value: str) -> None:
    section, key = _key_of(name)
    text = f"{key}: {_of_key(name, value)}"
    if not section:
        top = next(
            (one for one in range(number, -1, -1) if draft[one] and not draft[one][0].isspace()), number
        )
        empty = next(
            (one for one in range(len(draft.lines)) if re.match(rf"{key}:\s*(#.*)?$", draft[one])), None
        )
        if empty is not None:
            draft[empty] = text
        else:
            block = draft.block(top, items=True)
            draft.insert_below(block[-1] if block else top, text)
        return
    line = _section_line(draft, section)
    if line is None:
        draft.insert_below(len(draft.lines) - 1, f"{section}:", f"  {text}")
        return
    inner = _inner_lines(draft, line)
    for one in inner:
        if re.match(rf"\s+{key}:\s*(#.*)?$", draft[one]):  # a key without a value, which etcd ignores
            draft[one] = f"{draft.indent(one)}{text}"
            return
    indent = draft.indent(inner[0]) if inner else "  "
    draft.insert_below(inner[-1] if inner else line, f"{indent}{text}")
