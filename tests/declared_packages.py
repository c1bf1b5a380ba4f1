"""The installed packages that requirements name, with what these need in turn, and no other ones."""

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def canonical(name):
    """A distribution's name as names are compared: in lower case, with hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirements):
    """The installed distributions for some requirements, by their names."""
    found, seen, left = {}, set(), [Requirement(line) for line in requirements]
    while left:
        requirement = left.pop()
        name, extras = canonical(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = distribution(name)
        below = [Requirement(line) for line in found[name].requires or ()]
        left += [each for each in below if holds(each, extras)]
    return found


def holds(requirement, extras):
    """Whether a requirement holds on this machine, for a package that is installed with extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def link(requirements, folder):
    """Make a folder of packages in which Python finds the distributions for some requirements alone."""
    for found in needed(requirements).values():
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            place = Path(folder, top)
            if not place.is_symlink():  # some share a folder
                place.symlink_to(found.locate_file(top))
