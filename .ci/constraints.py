"""Write constraints.txt: the versions of packages in environments whose tests have passed.

    tox && python .ci/constraints.py .tox/py3*

It is for pip's option -c. Where a package's versions differ, markers say from
and up to which Python each is good; the last is also for Pythons to come.
"""

import re
import sys
from importlib.metadata import distributions
from itertools import groupby
from pathlib import Path

HEAD = "# Versions with which the tests have passed, by .ci/constraints.py; for pip's option -c.\n"


def packages_of(environment):
    """Return an environment's Python, as (3, 13), and the versions of what it has from PyPI."""
    site = next(Path(environment).glob("lib/python3.*/site-packages"), None)
    if site is None:
        sys.exit(f"Got {environment}, expected an environment, with lib/python3.*/site-packages")
    python = tuple(map(int, site.parent.name[len("python"):].split(".")))
    return python, {re.sub(r"[-_.]+", "-", one.name).lower(): one.version
                    for one in distributions(path=[str(site)])
                    if one.name != "pip" and one.read_text("direct_url.json") is None}


def lines_for(package, environments):
    """Yield a line for each version of a package."""
    versions = [(python, packages[package]) for python, packages in environments
                if package in packages]
    firsts = [next(same) for _, same in groupby(versions, key=lambda one: one[1])]
    bounds = ["{}.{}".format(*python) for python, _ in firsts]
    for number, (_, version) in enumerate(firsts):
        marker = [f'python_version >= "{bounds[number]}"'] if number else []
        marker += [f'python_version < "{bound}"' for bound in bounds[number + 1:number + 2]]
        line = f"{package}=={version}"
        yield f"{line} ; {' and '.join(marker)}" if marker else line


def constraints(environments):
    """Return the file's text for environments: pairs of a Python and its packages."""
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
