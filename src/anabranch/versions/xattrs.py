"""Extended attributes: values by name, as one map, in the entry itself or in an object that the entry names.

What an inode carries is `Xattrs`, and nothing is loaded before somebody asks for a value. It tells its tags by itself,
so entries can be made and compared before an object is stored: whoever commits them stores it (`put`).
"""

import errno
import os
from collections.abc import Mapping
from typing import NamedTuple

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.codec import Codec
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind, object_id
from anabranch.versions.objects import Entry, Tag

INLINE_MAX = 256
"""Encoded maps of up to this many bytes live in their entry."""
NAME_MAX = 255
VALUE_MAX = 64 * 1024
LIST_MAX = 64 * 1024
"""Bytes of all names, each with a zero after it: what listxattr(2) can give."""
MAP_MAX = 1024 * 1024
"""Bytes of a map as it is encoded: it is read, and written, whole."""
_NAMESPACES = frozenset((b"user", b"trusted", b"security"))
"""Those that mean nothing to a filesystem. ACLs (system) would have to be obeyed."""

Values = dict[bytes, bytes]
_VALUES: Codec[Values] = Codec(Values, "extended attributes")


class Xattrs(NamedTuple):
    """The extended attributes of an inode, as an entry holds them."""

    map: bytes = b""
    """The encoded map; empty where there are none, and where it is in an object and was not read."""
    object: bytes = b""
    """The id of the object that has, or will have, a map too large for an entry."""

    def tags(self) -> dict[int, int | bytes]:
        """The tags of an entry with these attributes."""
        if self.object:
            return {Tag.XATTRS_OBJECT: self.object}
        return {Tag.XATTRS: self.map} if self.map else {}


NO_XATTRS = Xattrs()


def of(entry: Entry) -> Xattrs:
    """Those of an entry. Raises DamagedError."""
    if not entry.extra:
        return NO_XATTRS
    inline, named = entry.extra.get(Tag.XATTRS, b""), entry.extra.get(Tag.XATTRS_OBJECT, b"")
    if not isinstance(inline, bytes) or not isinstance(named, bytes) or len(named) not in (0, ID_SIZE):
        raise DamagedError("the extended attributes of an entry are none")
    return Xattrs(inline, named)


def made(values: Mapping[bytes, bytes]) -> Xattrs:
    """Attributes that are not stored yet. Raises OSError(ENOSPC) on more than a file may have."""
    if not values:
        return NO_XATTRS
    encoded = _VALUES.encode(dict(sorted(values.items())))
    if not _fits(values) or len(encoded) > MAP_MAX:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return Xattrs(encoded, object_id(Kind.XATTRS, encoded) if len(encoded) > INLINE_MAX else b"")


def changed(values: Values, name: bytes, value: bytes | None) -> Xattrs:
    """Attributes with one of them set, or with None removed. Raises OSError as the system calls do."""
    if value is not None:
        return made(values | {name: value})
    if name not in values:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    return made({other: values[other] for other in values if other != name})


def load(objects: ObjectStore, held: Xattrs) -> Values:
    """The values, in order of their names. Raises DamagedError."""
    if not held.map and not held.object:
        return {}
    encoded = held.map or objects.get(Kind.XATTRS, ObjectId(held.object))
    values = _VALUES.decode(encoded)
    if not values or not _fits(values) or _VALUES.encode(dict(sorted(values.items()))) != encoded:
        raise DamagedError("extended attributes are not as a writer makes them")
    return values


def put(objects: ObjectStore, held: Xattrs) -> None:
    """Store what an entry of these attributes names."""
    if held.map and held.object:
        objects.put(Kind.XATTRS, held.map)


def check_name(name: bytes) -> None:
    """Whether a file may have an attribute of this name. Raises OSError(EOPNOTSUPP, EINVAL) as other filesystems do."""
    if not is_kept(name):
        code = errno.EINVAL if name[-1:] == b"." and name[:-1] in _NAMESPACES else errno.EOPNOTSUPP
        raise OSError(code, os.strerror(code))


def is_kept(name: bytes) -> bool:
    """Whether attributes of this name are kept: `user.x`, but not `system.x` nor `user.`."""
    namespace, _, rest = name.partition(b".")
    return namespace in _NAMESPACES and bool(rest)


def _fits(values: Mapping[bytes, bytes]) -> bool:
    if not all(0 < len(name) <= NAME_MAX and b"\0" not in name for name in values):
        return False
    return sum(map(len, values)) + len(values) <= LIST_MAX and max(map(len, values.values())) <= VALUE_MAX
