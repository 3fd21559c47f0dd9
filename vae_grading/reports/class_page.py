"""An overview of the class for the lecturer: a page with pictures."""

import io
import math
import os
import re
from collections import Counter, defaultdict
from statistics import mean, median
from urllib.parse import quote

import matplotlib
from babel.numbers import format_decimal
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae.checks import EXERCISES
from vae.language import _, language
from vae_grading.reports.texts import (
    MAX_POINTS, capital, headline, page_text, printable, sentence, visible)

__all__ = ["class_page"]

#: Maps placeholder colours in the pictures to colours of the page. Readers who are blind to red or
#: green can tell blue from orange.
_COLORS = {"#000001": "var(--text)", "#000002": "var(--quiet)", "#000003": "var(--line)",
           "#000004": "var(--blue)", "#000005": "var(--orange)"}
_TEXT, _QUIET, _LINE, _BLUE, _ORANGE = _COLORS
_WIDTH = 7.3  # inches; with this width, letters are as large as on the page
_MOST_BARS = 21  # bars of the histogram
_MOST_HINTS = 8
_VARYING = re.compile(r"""'[^']*'|"[^"]*"|-?\d+(?:\.\d+)?""")


def class_page(results):
    """Return the page of a class.

    Parameters
    ----------
    results : list of vae_grading.reports.StudentGrade

    Returns
    -------
    str
        HTML.
    """
    rows = [{"name": visible(result.student.name), "page": _link(result.page),
             "grade": printable(result.grade), "n_notebooks": len(result.student.notebooks)}
            for result in results]
    points = [row["grade"].points for row in rows]
    outcomes = {number: _outcomes(number, rows) for number in EXERCISES}
    return page_text(
        "class_page.html", rows=rows,
        mean=format_decimal(mean(points or [0]), "0.0", language()),
        median=format_decimal(median(points or [0]), "0.#", language()),
        n_best=sum(number == MAX_POINTS for number in points),
        n_without=sum(not row["n_notebooks"] for row in rows),
        histogram=_histogram(points), bars=_bars(outcomes, len(rows)), hints=_hints(rows))


def _link(path):
    try:
        return quote(os.fsencode(path))
    except UnicodeEncodeError:  # no file can have this name
        return ""


# --- pictures ---

def _histogram(points):
    """Return a histogram of the students' points, which may be fractions."""
    last = math.floor(MAX_POINTS)
    step = math.ceil((last + 1) / _MOST_BARS)
    counts = Counter(number // step for number in points)
    labels = [str(start) if step == 1 else f"{start}–{min(start + step - 1, last)}"
              for start in range(0, last + 1, step)]
    heights = [counts[place] for place in range(len(labels))]
    figure, axes = _figure(height=2.6)
    bars = axes.bar(labels, heights, width=0.8, color=_BLUE)
    axes.bar_label(bars, [height or "" for height in heights], padding=2, color=_TEXT)
    axes.set_xlabel(_("баллы"), color=_QUIET)
    axes.set_ylabel(_("студенты"), color=_QUIET)
    axes.set_ylim(0, max([*heights, 1]) * 1.15)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y", color=_LINE)
    described = "; ".join(f"{label} – {height}" for label, height in zip(labels, heights) if height)
    return _svg(figure, "histogram", _("Число студентов с каждой суммой баллов: {described}.",
                                       described=described or "0"))


def _outcomes(number, rows):
    """Return the numbers of students who have solved an exercise, have failed, and did not try."""
    verdicts = [verdict for row in rows for verdict in row["grade"].verdicts
                if verdict.exercise == number]
    n_right = sum(verdict.passed for verdict in verdicts)
    n_wrong = sum(not verdict.passed and not verdict.untried for verdict in verdicts)
    return n_right, n_wrong, len(rows) - n_right - n_wrong


def _bars(outcomes, n_students):
    """Return a bar chart of the numbers of students who have solved each exercise."""
    figure, axes = _figure(height=0.55 + 0.5 * len(outcomes))
    places = range(len(outcomes))
    left = [0] * len(outcomes)
    for label, color, text_color, widths in zip(
            [_("верно"), _("неверно"), _("не выполнено")], [_BLUE, _ORANGE, _LINE],
            ["white", "white", _TEXT], zip(*outcomes.values())):
        bars = axes.barh(places, widths, 0.62, left, color=color, label=label)
        axes.bar_label(bars, [width or "" for width in widths], label_type="center",
                       color=text_color)
        left = [start + width for start, width in zip(left, widths)]
    axes.set_yticks(places, [f"{number}. {capital(EXERCISES[number].title)}" for number in outcomes],
                    color=_TEXT, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, max(n_students, 1))
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, handlelength=1,
                labelcolor=_TEXT, borderaxespad=0.2)
    described = " ".join(
        _("Упражнение {number}: верно {right}, неверно {wrong}, не выполнено {untried}.",
          number=number, right=right, wrong=wrong, untried=untried)
        for number, (right, wrong, untried) in outcomes.items())
    return _svg(figure, "bars", described)


def _figure(height):
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_QUIET)
    axes.tick_params(colors=_TEXT, length=0)
    return figure, axes


def _svg(figure, name, described):
    """Return a figure as an SVG element in the colours of the page, and its alternative text.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        A prefix of the ids in the element, which makes them unique on the page.
    described : str
        The alternative text.

    Returns
    -------
    dict of str
        The keys are ``svg`` and ``described``.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.S)
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub("#00000[1-5]", lambda match: _COLORS[match[0]], svg)
    return {"svg": svg.replace("<svg", '<svg aria-hidden="true"', 1), "described": described}


# --- hints ---

def _hints(rows):
    """Return the most frequent hints. Hints that differ only in numbers and names are merged."""
    found = defaultdict(list)
    for row in rows:
        for verdict in row["grade"].verdicts:
            if not verdict.passed and verdict.hint and not verdict.untried:
                text = headline(verdict)
                found[verdict.exercise, _VARYING.sub("…", text)].append((text, row))
    commonest = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:_MOST_HINTS]
    return [{"exercise": number,
             "text": sentence(Counter(text for text, _row in given).most_common(1)[0][0]),
             "rows": [row for _text, row in given]}
            for (number, _pattern), given in commonest]
