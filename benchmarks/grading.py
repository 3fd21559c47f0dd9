"""Measure the speed of the grader in notebooks per minute, on a class of 40 from the tests.

    python benchmarks/grading.py [--runs N]

Each run is a process ``python -m vae_grading``, which grades as many notebooks at a time as there
are cores. The time includes the start of the process.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))


def seconds_for(folder, output):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vae_grading", str(folder), "-o", str(output)],
                   check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3,
                        help="how many runs (default: %(default)s)")
    arguments = parser.parse_args()
    from grading_notebooks import write_class
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "class"
        folder.mkdir()
        write_class(folder)
        n = len(list(folder.rglob("*.ipynb")))
        seconds = statistics.median(seconds_for(folder, Path(scratch) / f"grades{run}")
                                    for run in tqdm(range(arguments.runs), unit=" run"))
    print(f"{n} notebooks on {os.cpu_count()} cores, Python {platform.python_version()}: "
          f"{60 * n / seconds:.0f} a minute (median of {arguments.runs} runs, {seconds:.0f} s)")


if __name__ == "__main__":
    main()
