"""The page of apps/web in a headless Chromium: built as its page says, drawn on by mouse, touch and keys."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import require_system

from .chromium import Page, browser, served
from .places import APPS

READY = "document.documentElement.dataset.ready === 'both' && document.getElementById('summary').textContent !== ''"
ANSWERS = "[...document.querySelectorAll('.card')].map((card) => Number(card.dataset.answer))"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static folder, as build.py makes it."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, str(APPS / "web" / "build.py"), "--output", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def chromium() -> str:
    return require_system("chromium", "chromium")


@pytest.fixture
def page(site: Path, chromium: str, tmp_path: Path) -> Iterator[Page]:
    """The page, with both modules loaded; nothing may have gone wrong in it at the end."""
    with served(site) as address, browser(chromium, tmp_path) as tab:
        tab.screen(1280, 900)
        tab.go(f"{address}/index.html")
        tab.wait(READY)
        yield tab
        assert tab.errors == []


def box(page: Page) -> list[float]:
    found: list[float] = page.run(
        "(() => { const box = document.getElementById('pad').getBoundingClientRect(); "
        "return [box.left, box.top, box.width]; })()"
    )
    return found


def test_test_images_are_named_by_both_modules(page: Page, tmp_path: Path) -> None:
    labels = page.run(
        "fetch('data.json').then((r) => r.json()).then((data) => data.images.map((image) => image.label))"
    )
    assert len(labels) == 40
    assert sorted(set(labels)) == list(range(10))
    wrong = 0
    for index, label in enumerate(labels):
        answers = page.run(f"document.getElementById('strip').children[{index}].click(), {ANSWERS}")
        assert answers[0] == answers[1]
        wrong += answers[0] != label
    assert wrong <= 1  # as many as the model gets wrong
    page.run("document.getElementById('strip').children[7].click()")
    page.wait("document.getElementById('summary').textContent.includes('labelled 7')")
    said = page.run("document.getElementById('summary').textContent")
    assert said.startswith("Sparse says 7 in ")
    assert "dense says 7 in " in said
    assert page.run("document.querySelector('[role=radio][aria-checked=true]').ariaLabel").endswith("labelled 7")
    assert page.run("document.getElementById('gain').textContent").endswith("×as fast")
    assert page.run("document.getElementById('alert').hidden")
    page.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes()[:4] == b"\x89PNG"


def test_a_drawn_one_is_a_one_by_mouse_by_touch_and_by_keys(page: Page) -> None:
    left, top, side = box(page)
    points = [(left + side * x, top + side * y) for x, y in ((0.42, 0.3), (0.52, 0.18), (0.52, 0.5), (0.52, 0.85))]
    page.mouse("mousePressed", *points[0])
    for point in points[1:]:
        page.mouse("mouseMoved", *point)
    page.mouse("mouseReleased", *points[-1])
    assert page.run(ANSWERS) == [1, 1]
    assert page.run("document.querySelectorAll('[aria-checked=true]').length") == 0
    page.run("document.getElementById('clear').click()")
    assert page.run(ANSWERS) == [-1, -1]

    page.send("Emulation.setTouchEmulationEnabled", enabled=True)
    page.touch("touchStart", points[0])
    for point in points[1:]:
        page.touch("touchMove", point)
    page.touch("touchEnd")
    assert page.run(ANSWERS) == [1, 1]
    assert page.run("scrollY") == 0  # the finger draws, and does not scroll
    page.run("document.getElementById('undo').click()")
    assert page.run(ANSWERS) == [-1, -1]

    page.run("document.getElementById('pad').focus()")
    for key in [" ", *["ArrowDown"] * 18, " "]:
        page.key(key)
    assert page.run(ANSWERS) == [1, 1]
    page.key("Delete")
    assert page.run(ANSWERS) == [-1, -1]


def test_arrow_keys_go_through_the_test_images(page: Page) -> None:
    page.run("document.getElementById('strip').children[0].focus()")
    page.key("ArrowRight")
    assert page.run(ANSWERS) == [1, 1]
    page.key("ArrowLeft")
    page.key("ArrowLeft")
    assert page.run(ANSWERS) == [9, 9]
    assert page.run("document.activeElement.ariaChecked") == "true"


@pytest.mark.parametrize(("width", "touch"), [(320, True), (390, True), (768, False), (1280, False)])
def test_nothing_is_wider_than_the_screen(page: Page, width: int, touch: bool) -> None:
    for dark in (False, True):
        page.screen(width, 800, dark=dark, touch=touch)
        page.wait(f"innerWidth === {width}")
        assert page.run("document.documentElement.scrollWidth") == width
        colours = page.run("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        ink, paper = (sum(map(int, colour.strip("rgb()").split(","))) for colour in colours)
        assert (ink > paper) == dark
    page.run("document.getElementById('theme').click()")
    assert page.run("document.documentElement.dataset.theme") == "light"
    # what a finger has to hit is large enough
    small = page.run(
        "[...document.querySelectorAll('button')].map((b) => b.getBoundingClientRect())"
        ".filter((box) => box.width < 24 || box.height < 24).length"
    )
    assert small == 0


def test_a_broken_module_is_told_of(site: Path, chromium: str, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(site, broken)
    for path in (broken / "models").iterdir():
        path.write_bytes(path.read_bytes()[:20000])
    with served(broken) as address, browser(chromium, tmp_path) as tab:
        tab.go(f"{address}/index.html")
        tab.wait("!document.getElementById('alert').hidden")
        said = tab.run("document.getElementById('alert').textContent")
        assert said.startswith("The network did not load. ")
        assert "is cut off or damaged" in said
        shutil.rmtree(broken / "models")
        tab.go(f"{address}/index.html?again")
        tab.wait("document.getElementById('alert').textContent.includes('404')")


def test_a_browser_without_simd_is_told_of(site: Path, chromium: str, tmp_path: Path) -> None:
    with served(site) as address, browser(chromium, tmp_path) as tab:
        tab.send("Page.addScriptToEvaluateOnNewDocument", source="WebAssembly.validate = () => false")
        tab.go(f"{address}/index.html")
        tab.wait("!document.getElementById('alert').hidden")
        assert "has no SIMD" in tab.run("document.getElementById('alert').textContent")


def test_one_file_from_the_disk(site: Path, chromium: str, tmp_path: Path) -> None:
    shutil.copy(site / "offline.html", tmp_path)
    with browser(chromium, tmp_path) as tab:
        tab.go((tmp_path / "offline.html").as_uri())
        tab.wait(READY)
        assert tab.run(f"document.getElementById('strip').children[4].click(), {ANSWERS}") == [4, 4]
        assert tab.errors == []


def test_a_worker_runs_a_model(site: Path, chromium: str, tmp_path: Path) -> None:
    script = """
        import { load } from "./tesa.js";
        const model = await load(new URL("models/sparse-simd128.wasm", import.meta.url));
        postMessage([...model.run({ image: new Float32Array(4096) }).logits].length);"""
    (site / "worker.js").write_text(script)
    with served(site) as address, browser(chromium, tmp_path) as tab:
        tab.go(f"{address}/data.json")
        tab.wait("location.pathname === '/data.json'")
        answer = tab.run(
            "new Promise((resolve) => {"
            "new Worker('/worker.js', { type: 'module' }).onmessage = (message) => resolve(message.data); })"
        )
        assert answer == 10
