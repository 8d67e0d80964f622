"""Records: what was framed comes back, and what was touched is damage, never other bytes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store import records
from anabranch.store.meta import OBJECTS, ObjectStore
from anabranch.store.records import (
    HEADER,
    Kind,
    checksum,
    frame,
    hash_name,
    hash_place,
    kind_of,
    object_id,
    seal,
    unframe,
    unseal,
)
from tests.unit.helpers import examples, random_bytes

CONTENTS = {
    "nothing": b"",
    "a byte": b"x",
    "text": b"a line of text\n" * 500,
    "zeros": bytes(100_000),
    "noise": random_bytes(1, 3_000),
}
contents = pytest.mark.parametrize("raw", CONTENTS.values(), ids=CONTENTS.keys())


@given(st.sampled_from(Kind), st.binary(max_size=3000), st.integers(1, 50))
@examples(100)
def test_what_was_framed_comes_back(kind: Kind, raw: bytes, times: int) -> None:
    raw *= times
    identity = object_id(kind, raw)
    assert unframe(kind, identity, frame(kind, identity, raw)) == raw


@contents
def test_every_truncation_of_a_record_is_damage(raw: bytes) -> None:
    """P35."""
    identity = object_id(Kind.CHUNK, raw)
    record = frame(Kind.CHUNK, identity, raw)
    for end in {*range(min(len(record), 200)), *range(0, len(record), 97), len(record) - 1}:
        with pytest.raises(DamagedError):
            unframe(Kind.CHUNK, identity, record[:end])
    with pytest.raises(DamagedError):
        unframe(Kind.CHUNK, identity, record + b"\0")


@contents
def test_every_flipped_bit_of_a_record_is_damage(raw: bytes) -> None:
    """P35."""
    identity = object_id(Kind.CHUNK, raw)
    record = frame(Kind.CHUNK, identity, raw)
    for at in {*range(min(len(record), 100)), *range(0, len(record), 61), len(record) - 1}:
        for bit in range(8):
            touched = bytearray(record)
            touched[at] ^= 1 << bit
            with pytest.raises(DamagedError):
                unframe(Kind.CHUNK, identity, bytes(touched))


@pytest.mark.parametrize("kind", [Kind.CHUNK, Kind.MANIFEST, Kind.TREE, Kind.COMMIT])
@pytest.mark.parametrize("raw", [b"", random_bytes(1, 90), b"text that shrinks " * 20], ids=["empty", "raw", "zstd"])
def test_every_truncation_and_every_other_byte_anywhere_in_a_stored_object_is_damage(
    objects: ObjectStore, kind: Kind, raw: bytes
) -> None:
    """P35: as the store reads it, values of no bytes at all included."""
    identity = object_id(kind, raw)
    record = frame(kind, identity, raw)
    touched = [record[:end] for end in range(len(record))] + [record + b"\0"]
    for at in range(len(record)):
        touched += [record[:at] + bytes([record[at] ^ bits]) + record[at + 1 :] for bits in (1, 2, 4, 0x80, 0xFF)]
    for wrong in touched:
        with pytest.raises(DamagedError):
            unframe(kind, identity, wrong)
        with pytest.raises(DamagedError):
            kind_of(identity, wrong)
    assert kind_of(identity, record) == kind
    for wrong in touched[:: len(touched) // 20]:
        objects._meta.put_all(OBJECTS, [(identity, wrong)])
        with pytest.raises(DamagedError):
            objects.get(kind, identity)
        with pytest.raises(DamagedError):
            objects.find(kind, identity.hex()[:8])


def test_a_frame_that_names_another_size_than_the_header_is_damage_before_it_is_unpacked() -> None:
    """A frame of a few bytes may claim an exabyte."""
    claims = b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x01\0\0"
    with pytest.raises(DamagedError, match="wrong length"):
        unframe(Kind.CHUNK, ObjectId(bytes(ID_SIZE)), forged(100, claims))


@given(st.binary(max_size=400))
@examples(100)
def test_noise_is_damage(noise: bytes) -> None:
    with pytest.raises(DamagedError):
        unframe(Kind.TREE, ObjectId(bytes(ID_SIZE)), noise)
    with pytest.raises(DamagedError):
        unseal(bytes([len(noise) % 255 + 1] * 8) + noise, "a row")


def test_a_record_under_another_id_is_damage() -> None:
    raw = b"content"
    identity = object_id(Kind.CHUNK, raw)
    with pytest.raises(DamagedError, match="checksum"):
        unframe(Kind.CHUNK, object_id(Kind.CHUNK, b"other"), frame(Kind.CHUNK, identity, raw))


def test_a_record_of_another_kind_is_damage() -> None:
    identity = object_id(Kind.TREE, b"content")
    with pytest.raises(DamagedError, match="header"):
        unframe(Kind.CHUNK, identity, frame(Kind.TREE, identity, b"content"))


def forged(raw_size: int, payload: bytes, codec: int = 1) -> bytes:
    """A record with a right checksum over a wrong header: what a faulty writer would leave."""
    identity = ObjectId(bytes(ID_SIZE))
    head = HEADER.pack(1, Kind.CHUNK, codec, 0, 0, raw_size, len(payload), 0)[:16]
    return head + checksum(identity, head, payload).to_bytes(8, "little") + payload


@pytest.mark.parametrize(
    "record",
    [
        forged(5, b"four", codec=0),
        forged(5, b"not zstd"),
        forged(records.MAX_RAW + 1, b"x", codec=0),
        forged(1, b"x", codec=2),
        forged(10, frame(Kind.CHUNK, ObjectId(bytes(ID_SIZE)), bytes(5_000))[HEADER.size :]),
    ],
)
def test_lengths_and_codecs_are_checked_before_they_are_trusted(record: bytes) -> None:
    with pytest.raises(DamagedError):
        unframe(Kind.CHUNK, ObjectId(bytes(ID_SIZE)), record)


def test_an_error_of_a_record_names_kind_and_id() -> None:
    identity = object_id(Kind.COMMIT, b"x")
    with pytest.raises(DamagedError, match=f"commit {identity.hex()}: "):
        unframe(Kind.COMMIT, identity, b"")


def test_noise_is_stored_as_it_is_and_text_compressed() -> None:
    noise, text = random_bytes(2, 10_000), b"text" * 2_500
    assert len(frame(Kind.CHUNK, object_id(Kind.CHUNK, noise), noise)) == HEADER.size + len(noise)
    assert len(frame(Kind.CHUNK, object_id(Kind.CHUNK, text), text)) < 200


def test_a_higher_level_saves_more_and_is_read_all_the_same() -> None:
    words = random.Random(1).choices([b"flight", b"delayed", b"carrier", b"2013", b"\n"], k=20_000)
    text = b",".join(words)
    identity = object_id(Kind.CHUNK, text)
    quick, small = (frame(Kind.CHUNK, identity, text, level) for level in (1, 19))
    assert len(small) < 0.9 * len(quick)
    assert unframe(Kind.CHUNK, identity, quick) == unframe(Kind.CHUNK, identity, small) == text


def test_the_id_of_an_object_depends_on_its_kind() -> None:
    assert len({object_id(kind, b"same") for kind in Kind}) == len(Kind)


def test_ids_are_those_of_the_format_for_ever() -> None:
    """docs/format.md, "Identity": keyed BLAKE3 under a key derived from 32 zero bytes and the kind."""
    assert {kind.name: object_id(kind, b"anabranch").hex()[:16] for kind in Kind} == IDS


IDS = {
    "CHUNK": "307ca289dee2965d",
    "MANIFEST": "4ced4aa324826286",
    "TREE": "431b504b4bdfcc4d",
    "COMMIT": "5f6dffb15223dbdd",
    "ROW": "a3419f9407d80349",
    "XATTRS": "acbbab2172ea3466",
}


@given(st.binary(max_size=200), st.data())
@examples(100)
def test_a_sealed_row_comes_back_and_a_touched_one_is_damage(row: bytes, data: st.DataObject) -> None:
    sealed = seal(row)
    assert unseal(sealed, "a row") == row
    touched = bytearray(sealed)
    touched[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedError, match="a row"):
        unseal(bytes(touched), "a row")
    with pytest.raises(DamagedError, match="a row"):
        unseal(sealed[: data.draw(st.integers(0, len(sealed) - 1))], "a row")


def test_the_hash_of_a_name_is_another_one_for_each_seed() -> None:
    assert len({hash_name(b"name", seed) for seed in range(100)}) == 100
    assert hash_name(b"name", 3) == hash_name(b"name", 3)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 9, 20])
def test_like_names_in_directories_of_like_numbers_have_hashes_of_their_own(width: int) -> None:
    places = [(directory, b"%0*d" % (width, name % 10**width)) for directory in range(16, 316) for name in range(300)]
    assert len({hash_place(*place) >> 2 for place in places}) == len(set(places))


def test_a_record_that_no_reader_would_take_is_not_made() -> None:
    raw = bytes(records.MAX_RAW + 1)
    with pytest.raises(ValueError, match="more than a record may hold"):
        frame(Kind.COMMIT, object_id(Kind.COMMIT, raw), raw)
