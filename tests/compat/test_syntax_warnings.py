"""Properties of all source files of the project."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("*.py"), *(path for folder in ("vae", "theano_compat", "vae_grading", "tools",
                                                 "wheels", "notebooks", "tests", "benchmarks")
                                 for path in (ROOT / folder).rglob("*.py"))]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_compiled_without_a_warning(path):
    """A SyntaxWarning is shown only when a file is compiled: here it always is."""
    compile(path.read_bytes(), str(path), "exec")
