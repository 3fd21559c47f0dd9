"""Grade a class: see ``python -m vae.grading --help``."""

import argparse
import hashlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

try:
    from vae.grading.grader import Grade, Reference, close_workers, grade, the_worker
    from vae.grading.reports import read_grade, write_class_reports, write_notebook_reports
    from vae.grading.sandbox import Limits
    from vae.grading.worker import WorkerError
except ModuleNotFoundError as error:
    if error.name in sys.stdlib_module_names:  # on Windows
        raise
    sys.exit(f'{error}: pip install -e ".[grading]"')

_LARGEST_FILE = 50 * 2**20  # bytes
_REFERENCE = (Path(__file__).resolve().parents[2] / "notebooks" / "vae_seminar_solution.ipynb")


def notebooks_in(folder, except_in):
    """Return the notebooks below a folder, by name: the path without its ending."""
    found = {}
    for path in sorted(folder.rglob("*.ipynb")):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if path.is_file() and not hidden and except_in not in path.resolve().parents:
            found[inner.with_suffix("").as_posix()] = path
    return found


def _read(path):
    """The content of a file, or why there is none, in Russian."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None, f"Файл больше {_LARGEST_FILE // 2**20} МБ."
        return path.read_bytes(), ""
    except OSError as error:
        return None, f"Файл не открывается: {error.strerror}."


@contextmanager
def _executor(reference, jobs, scheduler):
    """Where notebooks are graded: threads here, each waiting for a process, or Dask's workers."""
    if scheduler is None:
        reason = the_worker(reference).not_isolated
        if reason is not None:
            print("Warning: students' code runs with limits, but can reach the network and read "
                  f"this disk: no namespaces here ({reason}).", file=sys.stderr)
        with ThreadPoolExecutor(jobs) as executor:
            yield executor
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        sys.exit(f'{error}: pip install -e ".[dask]"')
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        sys.exit(f"No Dask scheduler answers at {scheduler}: {error}")
    with client:
        yield client.get_executor()


def grade_class(folder, output, reference, limits, jobs=None, scheduler=None):
    """Grade all notebooks below a folder; go on where an earlier run has stopped.

    Parameters
    ----------
    folder, output : path
        Where the notebooks are, and where the reports go.
    reference : Reference
    limits : Limits
    jobs : int, optional
        How many notebooks at a time; by default one for each core.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers grade in place of this machine.

    Returns
    -------
    grades : list of Grade
    failed : list of str
        What could not be graded for no fault of a student's, and why.
    """
    grades, failed, waiting = {}, [], {}
    paths = notebooks_in(folder, except_in=output.resolve())
    for name, path in paths.items():
        content, problem = _read(path)
        if content is None:
            grades[name] = Grade.without_points(name, problem)
            write_notebook_reports(output, grades[name], digest="")
            continue
        digest = hashlib.sha256(content + reference.digest().encode()).hexdigest()
        before = read_grade(output, name, digest)
        if before is None:
            waiting[name] = content, digest
        else:
            grades[name] = before

    if waiting:
        with _executor(reference, jobs, scheduler) as executor, tqdm(
                total=len(paths), initial=len(paths) - len(waiting), unit=" notebook",
                dynamic_ncols=True) as bar:
            futures = {executor.submit(grade, name, content, reference, limits): name
                       for name, (content, _) in waiting.items()}
            try:
                for future in as_completed(futures):
                    name = futures[future]
                    try:
                        grades[name] = future.result()
                        write_notebook_reports(output, grades[name], waiting[name][1])
                    except Exception as error:  # ours, not the student's: to be tried again
                        failed.append(f"{name}: {error}")
                        grades.setdefault(
                            name, Grade.without_points(name, "Проверка не состоялась."))
                    bar.set_postfix_str(name)
                    bar.update()
            except BaseException:
                for future in futures:
                    future.cancel()
                close_workers()
                raise
    grades = list(grades.values())
    write_class_reports(output, grades)
    return grades, failed


def main():
    parser = argparse.ArgumentParser(
        prog="python -m vae.grading",
        description="Grade a folder of students' notebooks. A run that was stopped goes on where "
                    "it was.")
    parser.add_argument("folder", type=Path, help="where the notebooks are, at any depth")
    parser.add_argument("-o", "--output", type=Path, default=Path("grades"),
                        help="folder for grades.csv, junit.xml, feedback/*.html and "
                             "gradescope/*.json (default: %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(),
                        help="notebooks at a time (default: the number of cores, %(default)s)")
    parser.add_argument("--timeout", type=float, default=Limits.timeout,
                        help="seconds for one run of a notebook (default: %(default)g)")
    parser.add_argument("--total-timeout", type=float, default=Limits.total,
                        help="seconds for all runs of a notebook together (default: %(default)g)")
    parser.add_argument("--memory", type=float, default=Limits.memory / 2**30,
                        help="GiB for one notebook (default: %(default)g)")
    parser.add_argument("--reference", type=Path, default=_REFERENCE,
                        help="the solved notebook (default: the project's)")
    parser.add_argument("--scheduler", metavar="ADDRESS",
                        help="grade on the workers of this Dask scheduler, as tcp://host:8786")
    arguments = parser.parse_args()
    for name in ["jobs", "timeout", "total_timeout", "memory"]:
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')}: got {getattr(arguments, name)}, "
                         "expected more than 0")
    if not arguments.folder.is_dir():
        parser.error(f"got {arguments.folder}, expected a folder with notebooks")
    if not notebooks_in(arguments.folder, arguments.output.resolve()):
        parser.error(f"there are no notebooks (*.ipynb) in {arguments.folder}")
    try:
        reference = Reference.read(arguments.reference)
    except (OSError, ValueError) as error:
        parser.error(f"--reference: {error}")
    limits = Limits(timeout=arguments.timeout, total=arguments.total_timeout,
                    memory=int(arguments.memory * 2**30))

    signal.signal(signal.SIGTERM, lambda *args: signal.raise_signal(signal.SIGINT))
    try:
        grades, failed = grade_class(arguments.folder, arguments.output, reference, limits,
                                     arguments.jobs, arguments.scheduler)
    except WorkerError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        os._exit(130)
    mean = sum(one.points for one in grades) / len(grades)
    print(f"{len(grades)} notebooks, {mean:.1f} points on average: "
          f"{arguments.output / 'grades.csv'}")
    if failed:
        sys.exit("Not graded, run again:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
