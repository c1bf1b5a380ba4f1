"""Print pip constraints for the lowest versions of the core dependencies that pyproject.toml allows.

torch and the tools of the ``dev`` extra keep their versions from constraints.txt: an old torch would be a large
download, and the tools are not what is tested. pip chooses all other versions to fit.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(?:\[[\w,]+\])?(?:>=(?P<lowest>[\w.]+))?")

project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
kept = {"torch", *(REQUIREMENT.match(line)["name"] for line in project["optional-dependencies"]["dev"])}
kept.remove("twine")  # its newest needs a newer rich than the lowest
for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
    if line.partition("==")[0] in kept:
        print(line)
for line in project["dependencies"]:
    name, lowest = REQUIREMENT.match(line).group("name", "lowest")
    if name not in kept:
        print(f"{name}=={lowest}")
