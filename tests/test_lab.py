"""Notebooks in JupyterLab as a reader meets them: opened, trusted, run, changed, run again.

Lab serves copies, and keeps its settings, its kernels' files and its trust beside them.
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
from paths import NOTEBOOKS, ROOT
from playwright.sync_api import expect

pytestmark = pytest.mark.weekly
# For each notebook a line at the end of its hyperparameters, and the cell that must then differ.
CHANGES = {
    "01_elbo": ("weight = 2.0", "closed-form"),
    "03_training": ("training_steps = 256", "scatter"),
    "05_traversals": ("latent_size = 4", "codes"),
}
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
}
BADGES = (
    "https://colab.research.google.com/assets/colab-badge.svg",
    "https://mybinder.org/badge_logo.svg",
)
EMPTY_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="20"/>'
MINUTES_OF_A_RUN = 10

RUN = """() => {
    window.ran = null;
    jupyterapp.commands.execute("notebook:run-all-cells").then(ok => { window.ran = { ok }; });
}"""
IDLE = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'idle'"
COUNTS = """() => jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type == "code").map(cell => cell.model.executionCount)"""
ACTIVE = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
SEEN = "images => images.every(i => i.checkVisibility() && i.naturalWidth > 0)"
DRAWING = """() => [...document.querySelector("[data-page]").shadowRoot
    .querySelectorAll("canvas, svg")].map(e => e.toDataURL?.() ?? e.innerHTML).join()"""


def environment(folder: Path) -> dict[str, str]:
    """That of a reader, with nothing of this machine's Jupyter, and the package of this checkout."""
    left_out = ("MPLBACKEND", "VAE_STRICT")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    own = {name: str(folder / part) for name, part in FOLDERS.items()}
    return kept | own | {"PYTHONPATH": str(ROOT)}


def wait_for(condition, seconds: float):
    """Returns the first true value of a condition, None if there is none in time."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return value or None


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory) -> str:
    """The address of a JupyterLab over copies of the notebooks, up to its token."""
    folder = tmp_path_factory.mktemp("lab")
    without = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(NOTEBOOKS, folder / "notebooks", ignore=without)
    for name, values in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.port=0", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    command += ["--IdentityProvider.token=secret", "--LabApp.expose_app_in_browser=True"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment(folder), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        # Written when it listens, and last.
        wait_for(lambda: list(folder.glob("runtime/*-open.html")) or server.poll(), 60)
        described = list(folder.glob("runtime/jpserver-*.json"))
        assert described, (folder / "log").read_text()
        yield json.loads(described[0].read_text())["url"]
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def open_notebook(browser, lab):
    """Opens a notebook; fails on a script's error, and on a request that leaves the machine."""
    faults = []
    page = browser.new_page(viewport={"width": 1200, "height": 1000})

    def serve(route) -> None:
        asked = route.request.url
        if asked in BADGES:
            route.fulfill(body=EMPTY_SVG, content_type="image/svg+xml")
        else:
            faults.append(f"asks for {asked[:200]}")
            route.abort()

    def open_notebook(name: str):
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.route(re.compile(f"^(?!{re.escape(lab)}|data:|blob:)http"), serve)
        page.goto(f"{lab}lab/workspaces/{name}/tree/{name}.ipynb?token=secret")
        return page

    yield open_notebook
    page.close()
    assert faults == []


def has_picture(output) -> bool:
    data = output.get("data", {})
    return "image/png" in data or "<img" in data.get("text/html", "")


def is_folded(cell) -> bool:
    return cell.metadata.get("jupyter", {}).get("source_hidden", False)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell_of(page, notebook, name: str):
    """Finds a cell of the page by its name."""
    (place,) = [i for i, cell in enumerate(notebook.cells) if cell.id == name]
    return page.locator(".jp-Notebook-cell").nth(place)


def outputs(where) -> list[str]:
    return where.locator(".jp-OutputArea-output").all_inner_texts()


def assert_that_all_is_shown(page, notebook) -> None:
    """All pictures are seen, an explorer's too, and of a folded cell its title alone."""
    cells = code_cells(notebook)
    stored = [output for cell in cells for output in cell.outputs if has_picture(output)]
    titles = [cell.source.splitlines()[0] for cell in cells if is_folded(cell)]
    pictures = page.locator(".jp-OutputArea-output img")
    expect(page.locator(".jp-Notebook-cell")).to_have_count(len(notebook.cells), timeout=60_000)
    expect(pictures).to_have_count(len(stored))
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert pictures.evaluate_all(SEEN)
    assert page.locator(".jp-Notebook .jp-InputPlaceholder").all_inner_texts() == titles
    editors = page.locator(".jp-CodeCell .cm-content:visible")
    assert editors.count() == len(cells) - len(titles)


def assert_that_it_moves(page) -> None:
    """An explorer follows the mouse and the keys, and Lab hears none of these."""
    cells, pad = page.locator(".jp-Notebook-cell"), page.get_by_role("application")
    count = cells.count()
    slider = page.locator("[data-page] input[type=range]").first
    # On its other half: a click on the knob moves nothing.
    place = slider.evaluate("e => (e.max - e.value < e.value - e.min ? 0.1 : 0.9) * e.clientWidth")
    for act in (
        lambda: slider.click(position={"x": place, "y": 9}),
        lambda: pad.click(position={"x": 50, "y": 80}),
        lambda: pad.press("ArrowDown"),
    ):
        before = page.evaluate(DRAWING)
        act()
        page.wait_for_function(f"before => ({DRAWING})() != before", arg=before)
    active = page.evaluate(ACTIVE)
    for key in ("ArrowDown", "d", "d", "x", "b", "j"):
        pad.press(key)
    assert (cells.count(), page.evaluate(ACTIVE)) == (count, active)


def trust(page) -> None:
    page.evaluate("() => { jupyterapp.commands.execute('notebook:trust'); }")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.locator(".jp-Dialog").wait_for(state="detached")


def run_all(page, first_count: int, num_cells: int) -> None:
    """Runs all cells: each gets its count, none an error or a warning, and no bar is left."""
    page.evaluate(RUN)
    page.wait_for_function("() => window.ran", timeout=MINUTES_OF_A_RUN * 60_000)
    page.wait_for_function(IDLE)
    assert page.evaluate("ran.ok")
    assert page.evaluate(COUNTS) == list(range(first_count, first_count + num_cells))
    noise = page.locator("[data-mime-type$=stderr], [data-mime-type$=error]")
    assert noise.all_inner_texts() == []
    assert not [text for text in outputs(page) if re.search(r"\d%\|", text)]


def change_hyperparameters(page, cell, line: str) -> None:
    """Writes a line at the end of a cell, as a reader does."""
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text(f"\n{line}")


@pytest.mark.parametrize("name", CHANGES)
def test_a_notebook_is_read_trusted_run_and_changed(open_notebook, name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    num_cells, has_explorer = len(code_cells(notebook)), name != "03_training"
    line, changed = CHANGES[name]
    page = open_notebook(name)
    assert_that_all_is_shown(page, notebook)
    assert page.locator("img[alt*=xplorer]").count() == has_explorer
    trust(page)
    if has_explorer:
        assert_that_it_moves(page)  # as stored

    run_all(page, 1, num_cells)
    assert "no longer holds" not in "".join(outputs(page))
    if has_explorer:
        assert_that_it_moves(page)

    before = outputs(cell_of(page, notebook, changed))
    change_hyperparameters(page, cell_of(page, notebook, "parameters"), line)
    run_all(page, num_cells + 1, num_cells)
    assert outputs(cell_of(page, notebook, changed)) != before
    assert "With these hyperparameters this no longer holds" in "".join(outputs(page))
    if has_explorer:
        assert_that_it_moves(page)
