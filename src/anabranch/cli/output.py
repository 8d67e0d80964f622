"""What reaches the terminal: text as it is, in colour and through a pager where somebody looks, and errors.

Colour is put on here, by what a line looks like; `report` knows nothing of it. Every call of `ana` imports this
module: what only some need is imported where they need it.
"""

import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

import click

from anabranch.escape import show_name

_COLOURS = {
    "A": "green", "D": "red", "M": "yellow", "T": "cyan", "a": "cyan", "R": "cyan", "I": "bright_black",
    "+": "green", "-": "red", "@": "cyan",
}  # fmt: skip
"""Of what begins with such a character: the letter of a change, or a line of text."""
_CHANGE = re.compile(r"^(?:[ADMTaRI](?=  )| {4}(?:[+-].*|@@.*))", re.MULTILINE)
_VERSION = re.compile(r"^(.*?)([^\s:]*)( {1,2})([0-9a-f]{64}|[0-9a-f]{8})\b", re.MULTILINE)
"""The first name with an id after it in a line, or an id alone."""
_STATES = {"ok": "green", "warn": "yellow", "fail": "red"}
_STATE = re.compile(rf"^(?:{'|'.join(_STATES)})\b", re.MULTILINE)


class EnoughError(Exception):
    """Whoever reads our output has closed it: `ana log | head`. No failure."""


def show(text: str) -> None:
    """Print text as it is; names that are not UTF-8 were escaped before."""
    show_bytes(text.encode())


def show_bytes(data: bytes) -> None:
    """Write to standard output."""
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise EnoughError from None


def show_json(value: object) -> None:
    """Print a JSON document."""
    from anabranch import report

    show(report.to_json(value))


def page(lines: Iterable[str]) -> None:
    """Print lines as they come; on a terminal through a pager. Who leaves it early has seen enough."""
    pager = _pager() if _is_terminal(sys.stdout) else []
    if pager:
        _through(pager, lines)
    else:
        for line in lines:
            show(line)


def _pager() -> list[str]:
    """The words of the pager's command; none where there is no such program."""
    import shlex
    import shutil

    try:
        words = shlex.split(os.environ.get("PAGER", "less"))
    except ValueError:
        return []
    return words if words and shutil.which(words[0]) else []


def _through(command: list[str], lines: Iterable[str]) -> None:
    """Have another program show lines, which has the terminal until it ends."""
    import subprocess

    sys.stdout.flush()
    pager = subprocess.Popen(command, stdin=subprocess.PIPE, env={"LESS": "FRX", **os.environ})
    assert pager.stdin is not None
    try:
        for line in lines:
            pager.stdin.write(line.encode())
            pager.stdin.flush()  # the next one may take its time
    except BrokenPipeError:
        pass
    finally:
        with suppress(BrokenPipeError):
            pager.stdin.close()
        while pager.returncode is None:
            with suppress(KeyboardInterrupt):  # Ctrl-C is a key of the pager's
                pager.wait()


def tint_changes(text: str) -> str:
    """Lines of changes, with the letter in colour; and lines of text that were added or removed."""
    if not _is_coloured(sys.stdout):
        return text
    return _CHANGE.sub(lambda found: click.style(found[0], fg=_COLOURS[found[0].lstrip()[0]]), text)


def tint_versions(text: str) -> str:
    """Lines with a version in them, its name and id in colour."""
    return _VERSION.sub(_tint_version, text) if _is_coloured(sys.stdout) else text


def _tint_version(found: re.Match[str]) -> str:
    before, name, gap, identity = found.groups()
    shown = click.style(name, fg="yellow", bold=True) if name else ""
    return f"{before}{shown}{gap}{click.style(identity, fg='yellow')}"


def tint_states(text: str) -> str:
    """Lines that begin with how a check went, in the colours of a traffic light."""
    if not _is_coloured(sys.stdout):
        return text
    return _STATE.sub(lambda found: click.style(found[0], fg=_STATES[found[0]]), text)


def say(message: str) -> None:
    """Say something on standard error, where it is no part of the output."""
    click.echo(show_name(message), err=True)


def complain(message: str, hint: str | None = None) -> None:
    """Say on standard error what is wrong, and what to do; after what was printed before."""
    with suppress(OSError):
        sys.stdout.flush()
    for label, colour, text in (("ana:", "red", message), ("hint:", "cyan", hint)):
        if text:
            shown = click.style(label, fg=colour, bold=True) if _is_coloured(sys.stderr) else label
            click.echo(f"{shown} {show_name(text)}", err=True)


def _is_coloured(stream: TextIO) -> bool:
    """Whether whoever reads it wants colours: https://no-color.org."""
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")


def _is_terminal(stream: TextIO) -> bool:
    """Whether it is a terminal that can do more than print."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
