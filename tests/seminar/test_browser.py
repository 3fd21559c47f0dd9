"""The seminar in a real browser: a student in JupyterLab, from the first cell to the last.

Screenshots are kept in tests/seminar/screenshots.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from tools import build
from tools.git import use_filter
from tools.run import execute
from test_notebooks import tagged
from vae.checks import EXERCISES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which(
    "google-chrome")
SCREENSHOTS = Path(__file__).parent / "screenshots"
#: JavaScript: the outputs of each cell in JupyterLab, as text.
_OUTPUTS = """() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')].map(
    cell => [...cell.querySelectorAll('.jp-OutputArea-output')].map(
        output => output.innerText).join('\\n'))"""

#: What a student reads: an exercise is not done, an exercise is right, a line of an epoch starts.
MESSAGES = {"ru": ("ещё не выполнено", "верно.", "Эпоха"),
            "en": ("is not done yet", "correct.", "Epoch")}


@pytest.fixture(params=MESSAGES)
def language(request):
    return request.param


@pytest.fixture
def serve(tmp_path):
    """A function that starts a Jupyter server, in the folder "work", and returns its address."""
    servers = []

    def start(application, theme="JupyterLab Light"):
        (tmp_path / "work").mkdir(exist_ok=True)
        for plugin, name, setting in [
                # put all cells into the page, not only the visible ones
                ("notebook-extension", "tracker", {"windowingMode": "none"}),
                ("apputils-extension", "themes", {"theme": theme}),
                ("apputils-extension", "notification", {"fetchNews": "false"})]:
            folder = tmp_path / "settings" / "@jupyterlab" / plugin
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.jupyterlab-settings").write_text(json.dumps(setting))
        environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
                       "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
                       "JUPYTER_DATA_DIR": str(tmp_path / "data"),  # which notebooks are trusted
                       "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
                       "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
        with open(tmp_path / "log", "w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "jupyter", application, "--no-browser", "--allow-root",
                 "--port=0", "--IdentityProvider.token=secret", "--expose-app-in-browser"],
                cwd=tmp_path / "work", env=environment, stdout=log, stderr=log)
        servers.append(server)
        while (url := url_of_server(tmp_path / "runtime")) is None:
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        return f"{url}{'lab/tree' if application == 'lab' else 'notebooks'}/"

    yield start
    for server in servers:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:  # at its end, a thread may wait for a lock forever
            server.kill()
            server.wait()


@pytest.fixture
def address(tmp_path, language, serve):
    """The address of the student's notebook, with two epochs, on a Jupyter server."""
    notebook = build.student(language)
    start = next(cell for cell in notebook.cells if "num_epochs = 10" in cell.source
                 and cell.cell_type == "code")
    start.source = start.source.replace("num_epochs = 10", "num_epochs = 2")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / build.STUDENT.name).write_text(build._text(notebook), encoding="utf-8")
    shutil.copy(build.HERE.parent / ".gitattributes", tmp_path / "work")
    in_git(tmp_path / "work", "init", "--quiet")
    in_git(tmp_path / "work", "add", ".")
    use_filter(tmp_path / "work")
    return f"{serve('lab')}{build.STUDENT.name}?token=secret"


def url_of_server(folder):
    """Return the address that a Jupyter server has written to its folder, None if not yet."""
    try:
        return json.loads(next(folder.glob("jpserver-*.json")).read_text())["url"]
    except (StopIteration, ValueError):  # not written yet, or only in part
        return None


def in_git(folder, *arguments):
    """Return what a git command prints."""
    return subprocess.run(["git", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True,
                          check=True).stdout


class Student:
    """Does in JupyterLab's page what a student does."""

    def __init__(self, page, address, screenshots):
        self._page, self._screenshots = page, screenshots
        page.goto(address)
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
            " === 'idle'", timeout=0)

    def save(self):
        """Write the file, even if nothing has changed."""
        self._page.evaluate("jupyterapp.commands.execute('docmanager:save')")

    def outputs(self):
        return self._page.evaluate(_OUTPUTS)

    def wait_until_idle(self):
        """Wait until the kernel is idle, at least half a second."""
        self._page.wait_for_timeout(500)
        self._page.wait_for_function(
            "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
            " && ![...document.querySelectorAll('.jp-InputPrompt')].some("
            "prompt => prompt.innerText.includes('*'))", timeout=0)

    def cell(self, number):
        return self._page.locator(".jp-Notebook .jp-Cell").nth(number)

    def select(self, number):
        self.cell(number).locator(".jp-InputPrompt, .jp-InputArea-prompt").first.click(force=True)

    def type_into(self, number, source):
        self.cell(number).locator(".cm-content").click()
        self._page.keyboard.press("Control+A")
        self._page.keyboard.insert_text(source)
        self._page.keyboard.press("Shift+Enter")
        self.wait_until_idle()

    def press_shift_enter(self):
        self._page.keyboard.press("Shift+Enter")
        self.wait_until_idle()

    def keep_screenshot(self, name, number):
        self.cell(number).scroll_into_view_if_needed()
        self._page.screenshot(path=str(self._screenshots / f"{name}.png"))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_student_completes_the_seminar(address, language, mnist_dir, tmp_path):
    (SCREENSHOTS / language).mkdir(parents=True, exist_ok=True)
    undone, right, epoch = MESSAGES[language]
    cells, solved = build.student(language).cells, build.solution(language)
    numbers = {tag: number for number, cell in enumerate(cells)
               for tag in cell.metadata.get("tags", [])}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        student = Student(page, address, SCREENSHOTS / language)
        student.save()
        saved = (tmp_path / "work" / build.STUDENT.name).read_text(encoding="utf-8")
        assert "nbconvert_exporter" in saved and not in_git(tmp_path / "work", "diff")

        student.select(0)
        for _ in range(numbers["check-1"] + 1):
            student.press_shift_enter()
        output = student.outputs()[numbers["check-1"]]
        assert undone in output and "Traceback" not in output
        student.keep_screenshot("unfilled", numbers["check-1"])

        for exercise in EXERCISES:
            student.type_into(numbers[f"exercise-{exercise}"],
                              tagged(solved, f"exercise-{exercise}").source)
            following = min(numbers[tag] for tag in [
                *(f"exercise-{later}" for later in EXERCISES if later > exercise), "training"])
            for _ in range(numbers[f"exercise-{exercise}"] + 1, following):
                student.press_shift_enter()
            assert right in student.outputs()[numbers[f"check-{exercise}"]]
            student.keep_screenshot(f"exercise-{exercise}", numbers[f"exercise-{exercise}"])

        for number in range(numbers["training"], len(cells)):
            student.press_shift_enter()
            if number == numbers["training"]:
                output = student.outputs()[number]
                assert [f"{epoch} {n}: " in output for n in (1, 2, 3)] == [True, True, False]
        pictures = [number for number in range(len(cells))
                    if student.cell(number).locator(".jp-OutputArea-output img").count()]
        drawing = [number for number, cell in enumerate(cells) if re.search(
            r"^(with Train|plot_|explore_)", cell.source, re.M)]
        assert pictures == drawing
        for number in pictures:
            picture = student.cell(number).locator(".jp-OutputArea-output img")
            assert len(picture.get_attribute("alt")) > 20
            student.keep_screenshot(f"picture-{pictures.index(number)}", number)

        picture = student.cell(pictures[-1]).locator("img")
        before = picture.get_attribute("src")
        student.cell(pictures[-1]).get_by_role("slider", name="z_1").focus()
        for _ in range(16):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        for _ in range(16):
            page.keyboard.press("ArrowLeft")
        # the kernel may be idle for a moment before the last of these moves reaches it
        student.cell(pictures[-1]).get_by_role("img", name="(1.00, -1.00)").wait_for(timeout=0)
        assert picture.get_attribute("src") != before
        assert page.evaluate("document.activeElement.ariaLabel") == "z_2"
        student.keep_screenshot("explored", pictures[-1])

        outputs = "\n".join(student.outputs())
        assert outputs.count(right) == len(EXERCISES)
        assert language == "ru" or not re.search("[А-Яа-яЁё]", page.inner_text(".jp-Notebook"))
        assert not re.search(r"Traceback|Warning|Error|\bwarn", outputs)
        stderr = page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
        assert stderr.all_inner_texts() == []
        browser.close()


#: Cells that show each kind of picture, and code.
SHOWN = """\
%matplotlib inline
import numpy as np, utils, vae
vae.show_source(vae.BinaryVector)
utils.plot_model()
utils.plot_hidden_space(np.eye(28)[None, None].repeat(9, axis=0), lambda X: X[:, 0, :2, 0], range(9))
utils.TrainingPicture(np.eye(28)[None, None], np.copy, [], []);
utils.explore_manifold(lambda z: np.zeros((len(z), 1, 28, 28)))
""".splitlines()
PICTURES_IN_PAGE = "document.querySelectorAll('.jp-OutputArea-output img')"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A notebook with pictures and code that has been executed elsewhere."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(line) for line in SHOWN],
        metadata=build.student().metadata)
    path = tmp_path_factory.mktemp("shown") / "shown.ipynb"
    execute(notebook, path.parent)
    notebook.metadata = build.student().metadata
    nbformat.write(notebook, path)
    return path


def hide_the_file_browser(page):
    """It covers the whole screen of a phone."""
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.content?.model")
    page.evaluate("jupyterapp.shell.collapseLeft()")


def alts(notebook):
    return [output.data["text/plain"] for cell in notebook.cells for output in cell.outputs
            if "image/png" in output.get("data", {})]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("application, theme", [
    ("lab", "JupyterLab Dark"), ("notebook", "JupyterLab Light"), ("nbconvert", None)])
def test_saved_pictures_and_code_on_a_phone(application, theme, shown, tmp_path, serve):
    """Nothing has been executed, and the notebook is not trusted."""
    (tmp_path / "work").mkdir()
    shutil.copy(shown, tmp_path / "work")
    if application == "nbconvert":
        subprocess.run([sys.executable, "-m", "nbconvert", "--to=html", "work/shown.ipynb"],
                       cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
        address = (tmp_path / "work" / "shown.html").as_uri()
    else:
        address = f"{serve(application, theme)}shown.ipynb?token=secret"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(address)
        if application == "lab":
            hide_the_file_browser(page)
        expected = alts(nbformat.read(shown, as_version=4))
        page.wait_for_function(
            f"() => {PICTURES_IN_PAGE}.length == {len(expected)}"
            f" && [...{PICTURES_IN_PAGE}].every(image => image.naturalWidth > 0)"
            " && document.querySelector('.jp-RenderedMarkdown pre *')")
        found = page.evaluate(f"[...{PICTURES_IN_PAGE}].map(image => image.alt)")
        assert found == expected and len(set(expected)) == 4
        scales = page.evaluate(
            f"[...{PICTURES_IN_PAGE}].map(image => image.clientWidth / image.naturalWidth)")
        assert min(scales) > 0.55  # or else letters could not be read
        scrolls = page.evaluate(
            f"[...{PICTURES_IN_PAGE}].map(image => getComputedStyle(image.parentElement).overflowX)")
        assert set(scrolls) == {"auto"}
        fonts = page.evaluate("[...document.querySelectorAll('.jp-RenderedMarkdown pre *')].map("
                              "part => getComputedStyle(part).fontFamily)")
        assert fonts and all("mono" in font for font in fonts)
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=str(SCREENSHOTS / f"phone-{application}.png"))
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("application", ["lab", "notebook"])
def test_sliders_on_a_phone(application, tmp_path, shown, serve):
    """They are wide, are reached by Tab, and have names for screen readers."""
    (tmp_path / "work").mkdir()
    shutil.copy(shown, tmp_path / "work")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(f"{serve(application)}shown.ipynb?token=secret")
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
            " === 'idle'", timeout=0)
        if application == "lab":
            hide_the_file_browser(page)
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        first, second = page.get_by_role("slider", name="z_1"), page.get_by_role("slider", name="z_2")
        first.focus(timeout=300_000)
        for _ in range(48):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowLeft")
        picture = page.get_by_role("img", name="(3.00, -0.06)")
        picture.wait_for(timeout=300_000)
        assert second.get_attribute("aria-valuetext") == "-0.0625"
        for track in page.locator(".noUi-target").all():
            assert track.bounding_box()["width"] > 150
        assert not page.locator(".jupyter-widgets-error-widget").count()
        picture.scroll_into_view_if_needed()
        page.screenshot(path=str(SCREENSHOTS / f"sliders-{application}.png"))
        browser.close()
