"""Write constraints.txt: the versions of packages in environments whose tests have passed.

    tox && python .ci/constraints.py .tox/py3*

The file is meant for pip's option -c. If a package has different versions, each has a marker for
its Pythons. The last version is also used for later Pythons.
"""

import re
import sys
from importlib.metadata import distributions
from itertools import groupby
from operator import itemgetter
from pathlib import Path

HEAD = "# Versions with which the tests have passed, by .ci/constraints.py; for pip's option -c.\n"


def packages_of(environment):
    """Return the Python of an environment, such as (3, 13), and the versions of its packages.

    Packages that were not installed from an index are left out.
    """
    site = next(Path(environment).glob("lib/python3.*/site-packages"), None)
    if site is None:
        sys.exit(f"Got {environment}, expected an environment, with lib/python3.*/site-packages")
    python = tuple(map(int, site.parent.name[len("python"):].split(".")))
    return python, {re.sub(r"[-_.]+", "-", package.name).lower(): package.version
                    for package in distributions(path=[str(site)])
                    if package.name != "pip" and package.read_text("direct_url.json") is None}


def lines_for(package, environments):
    """Yield a line for each version of a package."""
    versions = [(packages[package], python) for python, packages in environments
                if package in packages]
    firsts = [next(group) for _, group in groupby(versions, key=itemgetter(0))]
    for number, (version, (major, minor)) in enumerate(firsts):
        markers = []
        if number > 0:
            markers.append(f'python_version >= "{major}.{minor}"')
        if number + 1 < len(firsts):
            _, (next_major, next_minor) = firsts[number + 1]
            markers.append(f'python_version < "{next_major}.{next_minor}"')
        line = f"{package}=={version}"
        yield f"{line} ; {' and '.join(markers)}" if markers else line


def constraints(environments):
    """Return the text of constraints.txt, from a list of results of `packages_of`."""
    environments = sorted(environments)
    packages = sorted({package for _, packages in environments for package in packages})
    return HEAD + "".join(f"{line}\n" for package in packages
                          for line in lines_for(package, environments))


if __name__ == "__main__":
    environments = [packages_of(environment) for environment in sys.argv[1:]]
    if not environments:
        sys.exit("Got no arguments, expected folders of environments: .tox/py3*")
    file = Path(__file__).parents[1] / "constraints.txt"
    file.write_text(constraints(environments), encoding="utf-8")
