"""Grade the example notebooks of the tests with another revision and with this tree.

``python tests/grading/compare_revisions.py REVISION`` prints the points and the hints before and
after, as a Markdown table. Each tree grades with its own code, in this Python environment.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
import grading_notebooks as notebooks


def examples():
    """Return the content of each example, by its name."""
    answers = {**notebooks.OTHER_WAYS, **notebooks.RIGHT,
               **{name: {number: source} for name, (number, source, _) in notebooks.WRONG.items()},
               **{name: answers for name, (answers, _) in notebooks.OWN_NAMES.items()}}
    return {**{name: make() for name, make in notebooks.FORMS.items()},
            **{name: notebooks.notebook(replaced) for name, replaced in answers.items()}}


def graded(tree, submissions, output):
    """Grade a folder with the code of a tree; return points and hints by the notebooks' names."""
    package = "vae_grading" if (tree / "vae_grading").is_dir() else "vae.grading"  # its old name
    subprocess.run([sys.executable, "-m", package, submissions, "-o", output], cwd=tree,
                   env={**os.environ, "PYTHONPATH": str(tree)}, stdout=sys.stderr)
    results = {}
    for path in (output / "results").glob("*.json"):
        result = json.loads(path.read_text("utf-8"))
        hints = [f"{number}: {test['output']}" for number, test in enumerate(result["tests"], 1)
                 if test["score"] < test["max_score"]]
        results[path.stem] = (sum(test["score"] for test in result["tests"]),
                              "\n".join(filter(None, [result.get("output"), *hints])))
    return results


def table(names, before, after, all_rows):
    """Return a Markdown table. Rows that differ come first; the others only if `all_rows`."""
    lines = ["| example | points before | after | hint before | after |", "| - | -: | -: | - | - |"]
    rows = [(name, *(results.get(stem, ("–", "")) for results in (before, after)))
            for stem, name in names.items()]
    for name, old, new in sorted(rows, key=lambda row: row[1] == row[2]):
        cells = [str(cell).replace("|", "\\|").replace("\n", "<br>")
                 for cell in [name, old[0], new[0], old[1], new[1]]]
        if all_rows or old != new:
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("revision", help="a commit, a branch or a tag")
    parser.add_argument("--all", action="store_true", help="also list what has not changed")
    parser.add_argument("-k", default="", help="only examples whose name has this text")
    options = parser.parse_args()
    chosen = {name: content for name, content in examples().items() if options.k in name}
    names = {f"example-{number:03d}": name for number, name in enumerate(chosen)}
    with tempfile.TemporaryDirectory() as folder:
        tree, submissions = Path(folder, "tree"), Path(tempfile.mkdtemp(dir=folder))
        for stem, name in names.items():
            (submissions / f"{stem}.ipynb").write_bytes(chosen[name])
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(tree), options.revision], check=True)
        try:
            before, after = (graded(code, submissions, Path(folder, output))
                             for code, output in [(tree, "before"), (ROOT, "after")])
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    print(table(names, before, after, options.all))


if __name__ == "__main__":
    main()
