"""Where to cut a stream of bytes: FastCDC 2020. Pure.

The algorithm, its table and its parameters are part of the format (docs/format.md, "Chunker"); the package behind
`cut` may change, the boundaries may not: tests hold it to the vectors written there.
"""

from pyfastcdc import FastCDC

MIN_SIZE = 16 * 1024
AVERAGE_SIZE = 64 * 1024
MAX_SIZE = 256 * 1024
CHUNKER_ID = "fastcdc2020-16k-64k-256k-nc1"


def cut(buffer: bytes | memoryview, *, final: bool) -> list[int]:
    """The lengths of the chunks at the start of a buffer.

    The rest of the buffer, shorter than MAX_SIZE, is the unfinished last chunk: with `final` it is a chunk too,
    otherwise more bytes may move its end, and the caller brings it again in front of them.
    """
    chunker = FastCDC(AVERAGE_SIZE, min_size=MIN_SIZE, max_size=MAX_SIZE, normalized_chunking=1)
    lengths = [chunk.length for chunk in chunker.cut_buf(buffer)]
    if not final and lengths and lengths[-1] < MAX_SIZE:
        lengths.pop()
    return lengths
