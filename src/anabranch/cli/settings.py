"""ana config: the settings of a repository."""

from pathlib import Path

import click

from anabranch import report
from anabranch.cli import completion
from anabranch.cli.context import Where, actor, find
from anabranch.cli.options import json_option, repository_option
from anabranch.cli.output import show, show_json
from anabranch.errors import UsageError
from anabranch.settings import MEMORY, XATTR, Setting, key_of


@click.command()
@click.argument("key", required=False, metavar="[KEY", shell_complete=completion.settings)
@click.argument("value", required=False, metavar="[VALUE]]", shell_complete=completion.setting_values)
@click.option("--unset", is_flag=True, help="Go back to the default of KEY.")
@repository_option
@json_option
def config(key: str | None, value: str | None, unset: bool, repository: Path | None, as_json: bool) -> None:
    """List the settings of a repository, print the one of KEY, or set it to VALUE.

    \b
    author          who commits are by; default: whoever commits
    default-branch  the branch that is meant where none is named, and that new ones start from
    compression     the zstd level of new content, 1 to 19: the higher, the smaller and slower; default: 1
    memory          MiB that a daemon may use to be quick, from the next mount on; default: 256
    xattr           on or off: whether there are extended attributes, from the next mount on; default: off

    \b
    Examples: ana config; ana config compression 9; ana config author "Ann Lee"; ana config --unset author
    """
    where = find(repository, None)
    if unset and (key is None or value is not None):
        raise UsageError("--unset takes one KEY", hint="ana config --unset author")
    if key is None:
        with where.reading() as history:
            settings = history.configured(actor())
        show_json(report.settings_json(settings)) if as_json else show(report.settings_text(settings))
    elif unset or value is not None:
        _set(where, key, value, as_json=as_json)
    else:
        with where.reading() as history:
            setting = history.settings.shown(key_of(key), actor())
        show_json(report.setting_json(setting)) if as_json else show(f"{setting.value}\n")


def _set(where: Where, key: str, value: str | None, *, as_json: bool) -> None:
    key_of(key)
    with where.service() as service:
        setting = service.configure(key, value, actor())
    if as_json:
        show_json(report.setting_json(setting))
    else:
        show(_said(setting))


def _said(setting: Setting) -> str:
    when = " from the next mount on" if setting.key in (MEMORY.name, XATTR.name) else ""
    return f"{setting.key} is {setting.value}{' again' * setting.is_default}{when}\n"
