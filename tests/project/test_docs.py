"""The links, examples and commands in README.md, docs/ and other pages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import build
from vae import MultivariateNormalDiag
from vae.checks import Mistake, check

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "theano_compat" / "README.md",
         ROOT / "benchmarks" / "README.md", ROOT / "tests" / "compat" / "theirs" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    lost = [target for target in targets if not re.match(r"https?://|#", target)
            and not (page.parent / target.partition("#")[0]).exists()]
    assert lost == []


@pytest.mark.parametrize("name, language", [("README.md", "en"), ("README.ru.md", "ru")])
def test_the_wrong_answer_and_its_hint_are_as_shown(name, language, monkeypatch):
    text = (ROOT / name).read_text(encoding="utf-8")
    source, shown = re.search(r"```text\n(def sample.*?)\n\n(✗.*?)\n```", text, re.S).groups()
    names = {}
    exec(source, names)
    answer = type("MultivariateNormalDiag", (MultivariateNormalDiag,), {"sample": names["sample"]})
    monkeypatch.setattr("vae.language._chosen", language)
    with pytest.raises(Mistake) as caught:
        check(1, {"MultivariateNormalDiag": answer})
    assert " ".join(shown.split()) == " ".join(str(caught.value).split())


def test_the_tables_of_exercises_are_made_from_the_exercises():
    for path, text in build._readmes().items():
        assert path.read_text(encoding="utf-8") == text
        assert build._TABLE.search(text)


@pytest.mark.slow
def test_every_command_of_a_module_has_help():
    """Each command `python -m ...` of this project that a page names exists."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    modules = set(re.findall(r"python -m ((?:tools|vae_grading|theano_compat)[\w.]*)", text))
    assert {"tools.run", "tools.build", "vae_grading", "theano_compat"} <= modules
    for module in modules:
        process = subprocess.run([sys.executable, "-m", module.rstrip("."), "--help"], cwd=ROOT,
                                 capture_output=True, text=True)
        assert process.returncode == 0 and "usage" in process.stdout, module
        assert "%%" not in process.stdout, module
