"""The command that lists the next page of a list: the same one, with its options."""

import shlex

import click
from click.core import ParameterSource

from service.cli.output import console, text_of

LEFT_OUT = frozenset({"cursor", "api_key"})
"""Options that a printed command does not repeat: another page begins elsewhere, and a key is secret."""


def print_next_page(cursor: object) -> None:
    """Print the running command with the options that were given and `cursor`; nothing without one."""
    if not cursor:
        return
    context = click.get_current_context()
    words = ["boomerang", str(context.info_name)]
    for option in context.command.params:
        given = context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        if given and option.name not in LEFT_OUT:
            words += _words(option, context.params.get(str(option.name)))
    words += ["--cursor", text_of(cursor)]
    console().print(f"More: {shlex.join(words)}", soft_wrap=True)


def _words(option: click.Parameter, value: object) -> list[str]:
    flag = isinstance(option, click.Option) and option.is_flag
    return [max(option.opts, key=len), *([] if flag else [text_of(value)])]
