"""The blocks of code in the README and in the handbook, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)
DOCUMENTS = [README, *PAGES]
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code: its language is what stands behind the opening fence."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document):
    """The blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(document, text.count("\n", 0, found.start()) + 1, found[2].strip(), found[3])
        for found in _FENCE.finditer(text)
    ]


def without_blocks(document):
    """The prose of a document."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def commands(block):
    """The commands of a block in a shell, each as its words; without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def is_shell(block):
    bare = not block.language and block.text.split()[0] in ("gradual", "make", "pip")
    return block.language == "sh" or bare


def gradual_in(words):
    """The arguments of the ``gradual`` command among the words, also behind ``srun`` or ``torchrun``; None without."""
    for place, word in enumerate(words):
        if word == "gradual":
            arguments = words[place + 1 :]
            return arguments[: arguments.index(">")] if ">" in arguments else arguments
    return None
