"""Damage to the bytes of a file, for tests of readers: bytes flipped, cut out and put in."""

from hypothesis import strategies as st

PLACES = st.integers(0, 2**16)
FLIPS = st.tuples(st.just("flip"), PLACES, st.integers(0, 255))
DELETIONS = st.tuples(st.just("delete"), PLACES, st.integers(1, 30))


def mutations(*pieces):
    """One to four changes; what they put in is one of some pieces, which mean something in the format."""
    insertions = st.tuples(st.just("insert"), PLACES, st.sampled_from(pieces))
    return st.lists(st.one_of(FLIPS, DELETIONS, insertions), min_size=1, max_size=4)


def mutate(content, changes):
    """A file's bytes after changes."""
    content = bytearray(content)
    for kind, position, what in changes:
        at = position % (len(content) + 1)
        if kind == "flip":
            content[at : at + 1] = bytes([what])
        elif kind == "delete":
            del content[at : at + what]
        else:
            content[at:at] = what
    return bytes(content)
