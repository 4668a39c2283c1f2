"""Flags, environment variables and a configuration file come to the settings that etcd takes.

As ``etcdmain`` does it: a configuration file makes etcd ignore both flags and variables, a flag goes before
its variable, the last of equal flags counts. Opens no file: the configuration file comes from a function of
the caller. Does not know what the settings mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from pytest_etcdtls.declared.arguments import Argument, parse_arguments, program_mistake, unknown
from pytest_etcdtls.declared.declaration import Declaration, Form, Mount, Place, Setting, Via
from pytest_etcdtls.declared.etcd_yaml import read_configuration
from pytest_etcdtls.declared.merger import NO_FLAGS, Merger
from pytest_etcdtls.declared.systemd_unit import OpenFile
from pytest_etcdtls.declared.version import tag_version
from pytest_etcdtls.declared.vocabulary import FLAG_OF
from pytest_etcdtls.declared.words import Invocation, Variable, Word
from pytest_etcdtls.errors import UsageError

_GO: Final = ("GODEBUG", "SSL_CERT_FILE", "SSL_CERT_DIR")


def assemble(
    invocation: Invocation,
    *,
    form: Form,
    source: str,
    open_file: OpenFile,
    mounts: tuple[Mount, ...] = (),
) -> Declaration:
    """Return the declaration that a start of etcd is.

    Args:
        invocation: etcd's program with its arguments (none for a bare environment file), and its environment.
        form: what it was read from.
        source: path of the file, or words.
        open_file: finds the configuration file.
        mounts: of the container that it is started in.

    Raises:
        UsageError: if a value that matters is not told, or the configuration file is not to be had.
    """
    merger = Merger()
    arguments = parse_arguments(invocation.program[1:])
    merger.mistakes += arguments.mistakes
    if invocation.program:
        first = invocation.program[1] if len(invocation.program) > 1 else None
        stop = program_mistake(first, first.place if first else invocation.program[0].place)
        if stop is not None:
            raise UsageError(f"{stop.place}: {stop.text}")
    flags = list(_told(arguments.given, merger))
    environment = (*_of_files(invocation.environment_files, open_file), *invocation.environment)
    variables = {variable.name: variable for variable in environment}
    config = _config_file(flags, variables)
    if config is None:
        _merge_flags_and_variables(flags, environment, merger)
    else:
        _take_configuration(config, flags, variables.values(), merger, open_file)
    return Declaration(
        form=form,
        source=source,
        settings=MappingProxyType(merger.settings),
        overridden=tuple(merger.overridden),
        shadowed=tuple(merger.shadowed),
        hidden=tuple(merger.hidden),
        unknown=tuple(merger.unknown),
        mistakes=tuple(merger.mistakes),
        config_file=config.value if config else None,
        image=invocation.image,
        version=tag_version(invocation.image),
        mounts=mounts,
        go_environment=MappingProxyType({name: variables[name].value for name in _GO if name in variables}),
        etcdctl=MappingProxyType(
            {name: found.value for name, found in variables.items() if name.startswith("ETCDCTL_")}
        ),
        notes=tuple(merger.notes),
    )


def _told(given: Iterable[Argument], merger: Merger) -> Iterable[Setting]:
    """Yield the flags whose values are known."""
    for argument in given:
        setting = argument.setting
        if argument.unresolved:
            merger.not_told(setting, ", ".join(argument.unresolved))
        else:
            yield setting


def _of_files(files: Iterable[Word], open_file: OpenFile) -> Iterable[Variable]:
    """Yield the variables of a container's environment files, which know no quotes."""
    for word in files:
        found = open_file(word.text, word.place)
        if found is None:
            raise UsageError(f"{word.place}: the environment file {word.text} is not here: put a copy beside")
        for number, line in enumerate(found[1].splitlines(), 1):
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                yield Variable(name, value, Place(found[0], number))


def _config_file(flags: Iterable[Setting], variables: dict[str, Variable]) -> Setting | None:
    given = [flag for flag in flags if flag.name == "config-file"]
    if given and given[-1].value:
        return given[-1]
    variable = variables.get("ETCD_CONFIG_FILE")
    return _of_variable(variable) if variable is not None and variable.value else None


def _of_variable(variable: Variable) -> Setting:
    name = FLAG_OF.get(variable.name, variable.name)
    return Setting(
        name=name, value=variable.value, spelled=variable.name, via=Via.VARIABLE, place=variable.place
    )


def _merge_flags_and_variables(
    flags: Iterable[Setting], environment: Iterable[Variable], merger: Merger
) -> None:
    for variable in environment:
        if not variable.name.startswith("ETCD_") or variable.name in NO_FLAGS:
            continue
        setting = _of_variable(variable)
        if variable.unresolved:
            merger.not_told(setting, variable.unresolved)
        elif variable.name not in FLAG_OF:
            merger.unknown.append(setting)
        else:
            merger.put(setting)
    of_environment, merger.settings = merger.settings, {}
    for flag in flags:
        (merger.unknown.append if unknown(flag) else merger.put)(flag)
    merger.shadowed += [setting for name, setting in of_environment.items() if name in merger.settings]
    merger.settings = of_environment | merger.settings
    for setting in merger.settings.values():
        merger.check_urls(setting)
        merger.check_variable(setting)


def _take_configuration(
    config: Setting,
    flags: Iterable[Setting],
    variables: Iterable[Variable],
    merger: Merger,
    open_file: OpenFile,
) -> None:
    found = open_file(config.value, config.place)
    if found is None:
        raise UsageError(
            f"{config.place}: etcd reads {config.written}, and that file is not here: pass it itself, or "
            "give the directory that it is under as --etcd-pki-dir"
        )
    configuration = read_configuration(found[1], found[0])
    for setting in configuration.given:
        merger.put(setting)
    for flag in flags:
        if flag.name not in ("config-file", "version"):
            merger.check_urls(flag)
            (merger.unknown if unknown(flag) else merger.hidden).append(flag)
    merger.hidden += [
        _of_variable(one) for one in variables if one.name in FLAG_OF and FLAG_OF[one.name] != "config-file"
    ]
    merger.unknown += configuration.unknown
    merger.mistakes += configuration.mistakes
