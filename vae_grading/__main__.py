"""Grade a class: see ``python -m vae_grading --help``."""

import argparse
import hashlib
import os
import signal
import sys
import tempfile
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

try:
    from vae.language import _, language
    from vae_grading.cluster import SchedulerGone, dask_executor, in_language
    from vae_grading.grader import (
        Grade,
        Reference,
        close_workers,
        grade,
        the_worker,
        what_reference_lacks,
    )
    from vae_grading.gradescope import make_archive
    from vae_grading.reports import (
        StudentGrade,
        check_folder,
        read_grade,
        write_class_reports,
        write_notebook_reports,
    )
    from vae_grading.sandbox.process import Limits, is_open, out_of_reach
    from vae_grading.sandbox.worker import WorkerError
    from vae_grading.submissions import collect, notebooks_of
except ModuleNotFoundError as error:
    if error.name in sys.stdlib_module_names:  # on Windows
        raise
    if error.name.startswith("vae."):
        sys.exit(f"{error}: rename {sys.modules['vae'].__file__}, which hides the package vae")
    sys.exit(f'{error}: pip install -e ".[grading]"')

_REFERENCE = (Path(__file__).resolve().parents[1]
              / "notebooks" / "solution" / "vae_seminar_solution.ipynb")
_MAX_LISTED = 10  # files or students


def _warn_of_missing_isolation(reason):
    """Warn that students' code is less isolated; raise WorkerError if it cannot run at all."""
    unreadable = out_of_reach([sys.prefix, sys.base_prefix, tempfile.gettempdir()])
    if unreadable is not None:
        raise WorkerError("Students' code would run as nobody, who can't enter "
                          f"{unreadable}: make this environment elsewhere, or grade as "
                          "a user who isn't the superuser.")
    reachable = [text for what, text in [("files", "read this disk"),
                                         ("network", "reach the network")] if what in is_open()]
    print("Warning: students' code runs with limits, but can "
          f"{' and '.join(reachable) or 'see that other processes and files exist'}: "
          f"no namespaces here ({reason}).", file=sys.stderr)


@contextmanager
def _executor(reference, jobs, scheduler):
    """Yield an executor: threads, which wait for processes on this machine, or Dask's workers."""
    if scheduler is not None:
        try:
            with dask_executor(scheduler) as executor:
                yield executor
        except ModuleNotFoundError as error:
            sys.exit(f'{error}: pip install -e ".[dask]"')
        return
    reason = the_worker(reference).not_isolated
    if reason is not None:
        _warn_of_missing_isolation(reason)
    with ThreadPoolExecutor(jobs) as executor:
        yield executor


def grade_class(students, output, reference, limits, jobs=None, scheduler=None):
    """Grade a class, and write all reports. Grades of an earlier run are kept if they are valid.

    Parameters
    ----------
    students : list of vae_grading.submissions.Student
    output : path
        Folder of the reports.
    reference : Reference
    limits : Limits
    jobs : int, optional
        Number of notebooks that are graded at a time; by default, one for each core.
    scheduler : str, optional
        Address of a Dask scheduler. Its workers grade instead of this machine.

    Returns
    -------
    results : list of StudentGrade
    failed : list of str
        Texts with the name of a notebook and an error of the grader itself.

    Raises
    ------
    WorkerError
        If students' code can't be run here, or if the reference does not get all points.
    vae_grading.cluster.SchedulerGone
        If the scheduler does not answer, or has ended.
    """
    submissions = notebooks_of(students)
    grades, failed, waiting = {}, [], {}
    for name, submission in submissions.items():
        if submission.content is None:
            grades[name] = Grade.without_points(name, submission.problem)
            write_notebook_reports(output, grades[name], digest="")
            continue
        digest = hashlib.sha256(submission.content + reference.digest().encode()).hexdigest()
        stored = read_grade(output, name, digest, limits)
        if stored is None:
            waiting[name] = submission.content, digest
        else:
            grades[name] = stored

    if waiting:
        with _executor(reference, jobs, scheduler) as executor, tqdm(
                total=len(submissions), initial=len(submissions) - len(waiting), unit=" notebook",
                dynamic_ncols=True) as bar:
            lacks = executor.submit(in_language, language(), what_reference_lacks, reference)
            futures = {executor.submit(in_language, language(), grade, name, content, reference,
                                       limits): name
                       for name, (content, _) in waiting.items()}
            try:
                if lacks.result():
                    raise WorkerError(f"The reference is not right itself:\n{lacks.result()}")
                for future in as_completed(futures):
                    name = futures[future]
                    try:
                        grades[name] = future.result()
                        write_notebook_reports(output, grades[name], waiting[name][1], limits)
                    except CancelledError:
                        raise
                    except Exception as error:  # an error of the grader: the next run tries again
                        failed.append(f"{name}: {error}")
                        grades.setdefault(
                            name, Grade.without_points(name, _("Проверка не состоялась.")))
                    bar.set_postfix_str(name)
                    bar.update()
            except BaseException:
                for future in futures:
                    future.cancel()
                close_workers()
                raise
    results = [_result_of(student, grades, output) for student in students]
    write_class_reports(output, results)
    return results, failed


def _result_of(student, grades, output):
    if student.notebooks:
        return StudentGrade.best_of(student, [grades[name] for name in student.notebooks])
    without = Grade.without_points(student.folder, student.problem)
    write_notebook_reports(output, without, digest="")
    return StudentGrade(student, without)


@contextmanager
def _only_run_into(output):
    """Lock a folder for this run; exit if it is locked or cannot be written to."""
    try:
        check_folder(output)
    except OSError as error:
        sys.exit(f"Reports can't be written into {output}: {error}")
    try:
        with FileLock(output / ".lock", timeout=0):
            yield
    except Timeout:
        sys.exit(f"Another run is writing into {output}: wait for it, or choose another folder "
                 "with -o")


def _shown(name):
    """Escape a name that a student has chosen, so that it cannot control the terminal."""
    return repr(os.fsencode(name).decode(errors="backslashreplace"))


def _list(reasons):
    """Return lines with a name and a reason each."""
    lines = [f"  {_shown(name)}: {reason}" for name, reason in reasons.items()]
    if len(lines) > _MAX_LISTED:
        lines[_MAX_LISTED:] = [f"  and {len(lines) - _MAX_LISTED} more"]
    return "\n".join(lines)


def _print_summary(results, output, skipped):
    n_notebooks = sum(len(result.student.notebooks) for result in results)
    mean = sum(result.grade.points for result in results) / len(results)
    print(f"{len(results)} students, {n_notebooks} notebooks, {mean:.1f} points on average: "
          f"{output / 'index.html'}")
    lists = {
        "No notebook": {
            result.student.folder: ", ".join(map(_shown, result.student.other_files[:_MAX_LISTED]))
            or "no files" for result in results if not result.student.notebooks},
        "Several notebooks, of which the best counts": {
            result.student.folder: len(result.student.notebooks) for result in results
            if result.other_grades},
        "Skipped": skipped}
    for title, reasons in lists.items():
        if reasons:
            print(f"{title}:\n{_list(reasons)}")


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m vae_grading",
        description="Grade students' notebooks. If a run was stopped, the same command resumes it.")
    parser.add_argument("submissions", type=Path, nargs="*",
                        help="folders of a class, with a folder or a notebook for each student, zip "
                             "archives of them, such as those from Moodle, and notebooks")
    parser.add_argument("-o", "--output", type=Path, default=Path("grades"),
                        help="folder for index.html, grades.xlsx, feedback/*.html and other reports "
                             "(default: %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(),
                        help="notebooks at a time (default: the number of cores, %(default)s)")
    parser.add_argument("--timeout", type=float, default=Limits.timeout,
                        help="seconds for one run of a notebook (default: %(default)g)")
    parser.add_argument("--total-timeout", type=float, default=Limits.total,
                        help="seconds for all runs of a notebook together (default: %(default)g)")
    parser.add_argument("--memory", type=float, default=Limits.memory / 2**30,
                        help="GiB for one run of a notebook (default: %(default)g)")
    parser.add_argument("--reference", type=Path, default=_REFERENCE,
                        help="the solved notebook (default: the project's)")
    parser.add_argument("--scheduler", metavar="ADDRESS",
                        help="grade on the workers of this Dask scheduler, such as tcp://host:8786")
    parser.add_argument("--gradescope-zip", type=Path, metavar="autograder.zip",
                        help="make the archive for Gradescope, and grade nothing")
    return parser


def main():
    parser = _parser()
    arguments = parser.parse_args()
    for name in ["jobs", "timeout", "total_timeout", "memory"]:
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')}: got {getattr(arguments, name)}, "
                         "expected more than 0")
    try:
        reference = Reference.read(arguments.reference)
    except (OSError, ValueError) as error:
        if arguments.reference == _REFERENCE and not _REFERENCE.exists():
            parser.error("the package was installed without the project's solved notebook: run "
                         "this command in the project's folder, or add --reference NOTEBOOK")
        parser.error(f"--reference: {error}")
    limits = Limits(timeout=arguments.timeout, total=arguments.total_timeout,
                    memory=int(arguments.memory * 2**30))
    if arguments.gradescope_zip is not None:
        if arguments.submissions:
            parser.error("--gradescope-zip grades nothing, and takes no notebooks")
        try:
            make_archive(arguments.gradescope_zip, arguments.reference, limits)
        except OSError as error:
            parser.error(f"--gradescope-zip: {error}")
        return
    try:
        students, skipped = collect(arguments.submissions, except_in=arguments.output)
    except ValueError as error:
        parser.error(str(error))
    if not notebooks_of(students):
        parser.error("there are no notebooks (*.ipynb) in "
                     f"{', '.join(map(str, arguments.submissions)) or 'no arguments'}"
                     + (f"; skipped:\n{_list(skipped)}" if skipped else ""))

    # The handler of SIGTERM raises KeyboardInterrupt. It does not send SIGINT, because background
    # jobs of a script ignore that signal.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _only_run_into(arguments.output):
            results, failed = grade_class(students, arguments.output, reference, limits,
                                          arguments.jobs, arguments.scheduler)
    except (WorkerError, SchedulerGone) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nStopped. To resume, run the same command again.", file=sys.stderr)
        os._exit(130)
    _print_summary(results, arguments.output, skipped)
    if failed:
        sys.exit("Not graded, run again:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
