"""The page in a browser: layout, colors and interaction, wide and narrow, light and dark."""

import shutil

import pytest

from cim_lightning.report.page import page
from cim_lightning.report.runs import read_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
SCREENS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def sweep(write_run, tmp_path):
    """The page of a sweep with all sections: settings, seeds, curves, panels and an unfinished run."""
    for i in range(6):
        logged = "step,val/loss,val/skill,train/loss,val/knn\n0,9,-2,,0.2\n4,,,4,\n"
        logged += f"9,{2 + i / 10},0.{i},3,0.{3 + i}\n"
        overrides = [f"cropping.rotation={15 * (i // 2)}", f"decoder.depth={1 + i // 4}", f"seed={i % 2}"]
        settings = {
            "cropping": {"rotation": 15 * (i // 2)},
            "a_setting_of_quite_a_long_name": "x" * 200 + str(i),
        }
        measured = {"val/knn": 30 + i + i % 2 * 3, "val/skill": i / 10}
        panels = [0, 100, 200] if i == 0 else []
        write_run(
            f"{i}", overrides, finished=i != 5, logged=logged, settings=settings, panels=panels, **measured
        )
    path = tmp_path / "report.html"
    path.write_text(page("sweep", read_runs(tmp_path)))
    return path


@pytest.fixture
def open_page(chromium, sweep):
    """Open the page; at the end, check that it logged no error and requested no other file."""
    pages = []

    def open_tab(width, scheme):
        tab = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        errors, urls = [], []
        tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda request: urls.append(request.url))
        tab.goto(sweep.as_uri())
        tab.wait_for_selector("#curves .main-svg")
        pages.append((tab, errors, urls))
        return tab

    yield open_tab
    for tab, errors, urls in pages:
        assert errors == []
        assert [url for url in urls if not url.startswith(("data:", "blob:"))] == [sweep.as_uri()]
        tab.close()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_page_fits_and_follows_the_color_scheme(open_page, width, scheme):
    tab = open_page(width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    text = tab.evaluate("document.getElementById('curves').layout.font.color")
    dark = (paper, text) == ("rgb(22, 24, 28)", "#e4e6ea")
    assert dark == (scheme == "dark")
    assert {h.inner_text() for h in tab.query_selector_all("h2")} == {
        "Overview",
        "Results",
        "Curves",
        "Results against cost",
        "Parallel coordinates",
        "Correlation panels",
        "Settings that differ",
        "Runs",
    }
    assert tab.locator("#coordinates .parcoords-line-layers, #coordinates canvas").count() > 0
    axis = tab.evaluate("getComputedStyle(document.querySelector('#coordinates .axis path')).stroke")
    assert axis == ("rgb(154, 162, 173)" if dark else "rgb(93, 100, 110)")
    tab.locator("summary").first.click()
    assert tab.locator("details dd").first.is_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_click_on_an_axis_converts_all_curves(open_page, width):
    tab = open_page(width, "light")
    title = tab.locator("#curves .infolayer .x3title")
    first = "document.getElementById('curves').data[0].x"
    assert title.inner_html() == "epochs"
    assert tab.evaluate(first) == pytest.approx([0, 2])
    for name, end, label in [("seconds", 20, "seconds of training"), ("images", 1000, "images seen")]:
        tab.locator("[name=axis-curves]").locator("..").filter(has_text=name).click()
        tab.wait_for_function(f"{first}[1] === {end}")
        assert title.inner_html() == label
    low, high = tab.evaluate("document.getElementById('curves').layout.xaxis3.range")
    assert low <= 0
    assert 1000 <= high < 1200


def test_an_unfinished_run_without_a_setup_is_plotted_against_steps_only(open_page):
    tab = open_page(1280, "light")
    last = "document.getElementById('curves').data.at(-1).x"
    assert tab.evaluate(last) == []
    tab.locator("[name=axis-curves]").locator("..").filter(has_text="steps").click()
    tab.wait_for_function(f"{last}.length === 2")


def test_a_click_on_an_axis_shows_the_points_of_that_axis(open_page):
    tab = open_page(1280, "light")
    final = "document.getElementById('costs').data.find((trace) => trace.mode === 'lines+markers')"
    assert tab.evaluate(f"{final}.x") == pytest.approx([3])  # TFLOP
    tab.locator("[name=axis-costs]").locator("..").filter(has_text="seconds").click()
    tab.wait_for_function(f"{final}.x[0] === 20")
    title = tab.locator("#costs .infolayer .xtitle, #costs .infolayer .x2title")
    assert title.last.inner_html() == "seconds of training"


def test_the_slider_changes_the_picture(open_page):
    tab = open_page(390, "light")
    slider = tab.locator("figure input")
    screenshots = []
    for position, step in (("2", "200"), ("0", "0"), ("1", "100")):
        slider.fill(position)
        picture = tab.locator("figure img:visible")
        assert picture.count() == 1
        assert picture.get_attribute("data-step") == step
        assert tab.locator("figure output").inner_text() == f"step {step}"
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 560
        screenshots.append(picture.screenshot())
    assert len(set(screenshots)) == 3


def test_colors_follow_a_change_of_the_color_scheme(open_page):
    tab = open_page(1280, "light")
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function("document.getElementById('curves').layout.font.color === '#e4e6ea'")


def test_touch_scrolls_past_the_curves(chromium, sweep):
    tab = chromium.new_page(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    tab.goto(sweep.as_uri())
    tab.wait_for_selector("#curves .main-svg")
    assert tab.evaluate("document.getElementById('curves').layout.dragmode") is False
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()
