"""`ana`: the group of commands, and what becomes of errors."""

import errno
import os
import sys
from pathlib import Path

import click

import anabranch
from anabranch.cli.commands import all_commands
from anabranch.cli.options import branch_option, repository_option
from anabranch.cli.output import EnoughError, complain
from anabranch.errors import NO_ROOM, AnabranchError


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> None:
        """Before click sees Ctrl-C, which it answers with an empty line."""
        try:
            super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None


@click.group(cls=_Group, commands=all_commands(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(anabranch.__version__, prog_name="ana")
@repository_option
@branch_option
def ana(repository: Path | None, branch: str | None) -> None:
    """Anabranch: a versioned filesystem for data.

    Mount a repository: every branch is a directory, every commit is a path.

    \b
      ana init /data/repo
      ana mount /data/repo /mnt/repo
      cp flights.csv /mnt/repo/main/
      ana commit -R /data/repo -m "flights of January"

    Exit codes: 0 done; 1 nothing to commit, or not found; 2 wrong use; 3 conflict or refused; 4 damaged or I/O error.
    """


def main() -> None:
    """Run a command; every error is one line, a hint, and an exit code."""
    for name in ("stdin", "stdout", "stderr"):  # closed by the caller: then the next file that is opened would be it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115, PTH123
    if os.environ.get("_ANA_COMPLETE", "").startswith("bash"):
        from click.shell_completion import add_completion_class

        from anabranch.cli.bash import Bash

        add_completion_class(Bash)
    try:
        ana.main(standalone_mode=False, prog_name="ana")
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        if sys.stderr.isatty():
            click.echo(err=True)  # after the terminal's ^C
        complain("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AnabranchError as error:
        complain(error.message, error.hint)
        sys.exit(error.exit_code)
    except (EnoughError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        sys.exit(0)
    except UnicodeEncodeError:
        complain("an argument is not UTF-8")
        sys.exit(2)
    except OSError as error:
        gone = error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT) and error.filename is None
        hint = "the directory that you are in is gone: leave it, and come back" if gone else None
        if error.errno == errno.ENOSPC:
            hint = NO_ROOM
        complain(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), hint)
        sys.exit(4)
