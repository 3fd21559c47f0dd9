"""Grading in Gradescope's container: the archive to upload, and the program in the container.

Gradescope unpacks the archive into /autograder/source and runs ``setup.sh``
once. For each submission it runs ``run_autograder`` in a new container. This
script reads /autograder/submission and writes /autograder/results/results.json.
Both scripts run as the superuser, and the container does not allow namespaces.
So students' code runs as another user, who can't enter /autograder/source. The
Python environment is outside this folder. It contains no solutions, because
the package is not copied into it.
"""

import json
import sys
import traceback
import zipfile
from dataclasses import asdict
from pathlib import Path

from vae.language import _, language
from vae_grading.grader import Grade, Reference, grade
from vae_grading.reports import results_json
from vae_grading.sandbox.process import Limits
from vae_grading.submissions import collect, notebooks_of

__all__ = ["grade_submission", "make_archive"]

_PROJECT = Path(__file__).parents[1]
_REFERENCE, _LIMITS = "notebooks/solution/vae_seminar_solution.ipynb", "limits.json"
_FILES = ["setup.py", "pyproject.toml", "README.md", "LICENSE", "constraints.txt", "utils.py"]
_FOLDERS = ("vae", "vae_grading", "theano_compat", "wheels")
_SUFFIXES = {".py", ".h", ".html", ".md", ".po", ".toml", ".txt"}

_SETUP = """\
#!/usr/bin/env bash
# Run once: installs the grader and grades its own reference as a test.
set -e
cd /autograder/source
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo 'This image has no Python 3.10 or later: choose a newer one, such as Ubuntu 22.04.' >&2
    exit 1
fi
if ! python3 -c 'import venv, ensurepip' 2> /dev/null; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y python3-venv
fi
chmod 700 /autograder/source
umask 022
python3 -m venv /opt/vae-seminar
/opt/vae-seminar/bin/pip install -q -c constraints.txt -r requirements.txt
grades=$(mktemp -d)
/opt/vae-seminar/bin/python -m vae_grading notebooks/solution/vae_seminar_solution.ipynb -o "$grades"
rm -r "$grades"
"""

_RUN = """\
#!/usr/bin/env bash
# Run for each submission: always leaves results.json.
results=/autograder/results/results.json
export VAE_LANGUAGE={language}
mkdir -p /autograder/results
chmod 700 /autograder/source /autograder/results
rm -f "$results"
cd /autograder/source && /opt/vae-seminar/bin/python -m vae_grading.gradescope /autograder
if [ ! -s "$results" ]; then
    echo '{"score": 0, "output_format": "text", "output":
        "Проверка не состоялась. Покажите это преподавателю."}' > "$results"
fi
"""


def make_archive(target, reference, limits):
    """Write the archive for Gradescope.

    It contains the package, the reference, and the versions of packages in ``constraints.txt``.

    Parameters
    ----------
    target : path
        The archive. An existing file is replaced.
    reference : path
        The solved notebook.
    limits : vae_grading.sandbox.process.Limits

    Raises
    ------
    OSError
        If the archive can't be written, or this package is not in its project's folder.
    """
    if not (_PROJECT / "setup.py").is_file():
        raise OSError("the archive contains files of the project that the package was installed "
                      "without: run this command in the project's folder")
    files = {name: (_PROJECT / name).read_bytes() for name in _FILES}
    for path in sorted(path for folder in _FOLDERS for path in (_PROJECT / folder).rglob("*")):
        inner = path.relative_to(_PROJECT)
        if path.suffix in _SUFFIXES and not {"build", "dist"}.intersection(inner.parts):
            files[inner.as_posix()] = path.read_bytes()
    local = [line for line in (_PROJECT / "requirements.txt").read_text("utf-8").splitlines()
             if line.startswith("./")]
    files["requirements.txt"] = "\n".join([*local, "-e .[grading]", ""]).encode()
    files[_REFERENCE] = Path(reference).read_bytes()
    files[_LIMITS] = json.dumps(asdict(limits)).encode()
    files.update({"setup.sh": _SETUP.encode(),
                  "run_autograder": _RUN.replace("{language}", language()).encode()})
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # no time, so that equal contents make equal archives
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if content.startswith(b"#!") else 0o100644) << 16
            archive.writestr(entry, content)


def grade_submission(root):
    """Grade the notebook of a submission to Gradescope. A result is written even after an error.

    Parameters
    ----------
    root : path
        Folder that contains ``source``, ``submission`` and ``results``.
    """
    root = Path(root)
    limits = Limits()
    try:
        limits = Limits(**json.loads((root / "source" / _LIMITS).read_text("utf-8")))
        result = _grade(root, limits)
    except Exception:
        traceback.print_exc()  # Gradescope shows it to teachers
        result = Grade.without_points("", _("Проверка не состоялась. Покажите это преподавателю."))
    (root / "results").mkdir(exist_ok=True)
    (root / "results" / "results.json").write_text(results_json(result, "", limits), "utf-8")


def _grade(root, limits):
    students, skipped = collect([root / "submission"])
    submissions = notebooks_of(students)
    if not submissions:
        names = ", ".join([*skipped][:10])
        return Grade.without_points(
            "", _("Сдайте ноутбук: файл с именем на .ipynb.") + " "
                + (_("Сданы другие файлы или ссылки: {names}.", names=names) if names
                   else _("Не сдано ни одного файла.")))
    if len(submissions) > 1:
        return Grade.without_points(
            "", _("Сдайте один ноутбук, тот, который нужно проверить. Сдано несколько:") + " "
                + ", ".join([*submissions][:10]) + ".")
    (name, submission), = submissions.items()
    if submission.content is None:
        return Grade.without_points(name, submission.problem)
    return grade(name, submission.content, Reference.read(root / "source" / _REFERENCE), limits)


if __name__ == "__main__":
    grade_submission(sys.argv[1])
