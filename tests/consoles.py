"""The ```console blocks of a document, run: what they print must be what the document says.

All blocks of a document are one session of bash, in a fresh home directory that is shown as /home/ann. A line that
begins with `$ ` is a command, those after it that begin with `> ` are more lines of it; the rest is what it prints,
errors too. `python -m tests.consoles DOCUMENT...` writes into documents what their commands print now.

What differs from one run to the next is not compared, wherever it stands:

- ids of 8 and 64 hexadecimal digits, processes, users, times, white space;
- sizes for people (`1.2 MB`), ratios, and the numbers of VARYING: what is compressed depends on zstd's version.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anabranch.daemon import mounts
from tests.harness import ANA

HOME = "/home/ann"
SECONDS = 300
"""For a whole session."""
VARYING = (
    "added_bytes|pid|uid|gid|stored|volumes|index|meta|journal|overlays|reserve|all|compression|deduplication|"
    "serving_seconds|resident_bytes|open_handles|known_inodes|chunk_cache_bytes|journal_bytes|overlay_files|overlay_bytes"
)
RULES = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\b([0-9a-f]{64}|[0-9a-f]{8})\b", "ID"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:?\d\d:?\d\d(\.\d+)?( UTC|Z)?", "TIME"),
        (r"\bprocess \d+|\b\d+ (?=\(\w+\) (stands|has))", "process N"),
        (r"\d[\d,]*(\.\d+)? [kMGT]?B\b", "SIZE"),
        (r"\b\d+\.\d\d to 1\b", "RATIO"),
        (r"Chunks: +[\d,]+", "Chunks: N"),  # what was stored while a file was being written may stay
        (rf'\b({VARYING.replace("_", "[_ ]")})("?): (?:[\d.]+|null)', r"\1\2: N"),
        (r"\s+", " "),
    )
]
END_OF_STEP = "\x1e"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Step:
    """A command, and what it prints."""

    command: str
    output: str

    def __str__(self) -> str:
        """As it stands in a block."""
        more = self.command.replace("\n", "\n> ").replace("> \n", ">\n")
        return f"$ {more}\n{self.output}"


def normalised(text: str) -> str:
    """What must be the same in each run."""
    for pattern, put in RULES:
        text = pattern.sub(put, text)
    return text.strip()


def blocks(document: str) -> list[list[Step]]:
    """The steps of each block."""
    return [list(_steps(block[1])) for block in BLOCK.finditer(document)]


def _steps(block: str) -> Iterator[Step]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines(keepends=True)
        while lines and re.match("> |>$", lines[0]):
            command += lines.pop(0)[2:] or "\n"
        yield Step(command.rstrip("\n"), "".join(lines))


def run(document: str) -> list[list[Step]]:
    """The same steps with what they print now."""
    written = blocks(document)
    with tempfile.TemporaryDirectory(prefix="anabranch-") as name:
        home = Path(name).resolve()
        try:
            outputs = _session([step.command for block in written for step in block], home)
        finally:
            _clear_away(home)
    said = iter(outputs)
    return [[Step(step.command, next(said)) for step in block] for block in written]


def _session(commands: list[str], home: Path) -> list[str]:
    script = "exec 2>&1\n" + "".join(
        f"eval {shlex.quote(command)} </dev/null\ns=$?; printf '\\036'; (exit $s)\n" for command in commands
    )
    kept = {name: value for name, value in os.environ.items() if name in ("PYTHONPATH", "ANABRANCH_REQUIRE_FUSE")}
    env = {**kept, "PATH": f"{ANA.parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc"],
        input=script, cwd=home, env=env, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    text = re.sub(r"bash: line \d+: ", "bash: ", ended.stdout.replace(str(home), HOME))
    outputs = text.split(END_OF_STEP)
    assert len(outputs) == len(commands) + 1, f"the session broke off: {text[-500:]}"
    return [output if output.endswith("\n") or not output else output + "\n" for output in outputs[:-1]]


def _clear_away(home: Path) -> None:
    for known in mounts.all_mounts():
        if known.directory.is_relative_to(home):
            ended = subprocess.run([ANA, "umount", known.directory], cwd="/", capture_output=True, check=False)
            if ended.returncode != 0:  # else the daemon has ended, too, and writes nothing more
                subprocess.run(["fusermount3", "-uz", known.directory], check=False)


def rewritten(document: str) -> str:
    """The document with what its commands print now."""
    now = iter(run(document))
    return BLOCK.sub(lambda _: "```console\n" + "".join(map(str, next(now))) + "```", document)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(rewritten(path.read_text()))
