"""Text files that users give, read whole."""

from __future__ import annotations

from pathlib import Path

from gradual.errors import InputError


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, without a byte order mark; line ends stay as they are.

    Raises:
        InputError: The file cannot be read, or is not UTF-8; the message names the line.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); convert the file."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.") from None
