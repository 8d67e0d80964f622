"""`ana`: the group of commands, and what becomes of errors."""

import errno
import os
import sys
from pathlib import Path

import click

import anabranch
from anabranch.cli import history, mending, mounting, names, settings, transfer, work
from anabranch.cli.context import EnoughError
from anabranch.cli.options import branch_option, repository_option
from anabranch.errors import AnabranchError
from anabranch.report import show_path


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (
    mounting.init, mounting.mount, mounting.umount, work.status, work.commit, work.diff, work.restore, work.discard,
    history.log, history.show_version, history.ls, history.du, history.cat, transfer.import_files,
    transfer.export_version, names.branch, names.tag, settings.config, mending.reindex,
):  # fmt: skip
    ana.add_command(command)


def main() -> None:
    """Run a command; every error is one line, a hint, and an exit code."""
    try:
        ana.main(standalone_mode=False, prog_name="ana")
        sys.stdout.flush()
    except click.exceptions.Abort:
        _say("interrupted", None)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AnabranchError as error:
        _say(error.message, error.hint)
        sys.exit(error.exit_code)
    except (EnoughError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        sys.exit(0)
    except UnicodeEncodeError:
        _say("an argument is not UTF-8", None)
        sys.exit(2)
    except OSError as error:
        gone = error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT) and error.filename is None
        hint = "the directory that you are in is gone: leave it, and come back" if gone else None
        _say(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), hint)
        sys.exit(4)


def _say(message: str, hint: str | None) -> None:
    shown = show_path(message.encode(errors="surrogateescape"))
    click.echo(f"ana: {shown}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
