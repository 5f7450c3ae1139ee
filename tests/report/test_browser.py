"""The page in a real browser. Skipped only where there is no chromium; `.ci/run` installs it."""

import json
import shutil

import pytest
import runs
from selenium import webdriver
from selenium.webdriver.common.by import By

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.processes, pytest.mark.skipif(CHROMIUM is None, reason="no chromium")]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = shutil.which("chromedriver")
    assert driver, "chromium is here, but not its chromedriver (Debian: chromium-driver)"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def comparison(shapes_run, published_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison") / "comparison.html"
    assert runs.tool("report", shapes_run.work_dir, published_run.work_dir, "--out", out).code == 0
    return out


@pytest.fixture
def pages(shapes_run, comparison):
    return [shapes_run.work_dir / "report.html", comparison]


def show(browser, page, width: int = 1200) -> None:
    size = dict(width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def requests(browser, page) -> list[str]:
    """What the browser has asked for since the last call on behalf of `page`."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent if params["documentURL"] == page.as_uri()]


def test_no_error_and_no_request(browser, pages):
    for page in pages:
        show(browser, page)
        asked = requests(browser, page)
        assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
        assert browser.get_log("browser") == []


def test_curves_and_pictures_are_there(browser, pages):
    show(browser, pages[0])
    assert len(browser.find_elements(By.CSS_SELECTOR, "svg.chart path")) >= 10
    assert browser.find_element(By.CSS_SELECTOR, "svg.network").size["height"] > 100
    (picture,) = [image for image in browser.find_elements(By.TAG_NAME, "img") if image.is_displayed()]
    assert picture.get_property("naturalWidth") > 100
    for chart in browser.find_elements(By.CSS_SELECTOR, ".charts svg.chart"):
        if chart.is_displayed():
            assert chart.size["width"] > 300


def test_the_slider_changes_the_picture(browser, pages):
    show(browser, pages[0])
    sources = []
    for value, label in ((1, "step 6"), (0, "step 3")):
        browser.execute_script(
            "const slider = document.querySelector('input'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input'));",
            value,
        )
        assert browser.find_element(By.CSS_SELECTOR, ".slider output").text == label
        sources += [i.get_attribute("src") for i in browser.find_elements(By.TAG_NAME, "img") if i.is_displayed()]
    assert len(set(sources)) == 2


def test_a_chart_reads_out_what_is_under_the_pointer(browser, pages):
    show(browser, pages[0])
    chart = browser.find_element(By.CSS_SELECTOR, 'svg.chart[aria-label="task loss"]')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    webdriver.ActionChains(browser).move_to_element(chart).perform()
    output = chart.find_element(By.XPATH, "./ancestor::figure//output")
    step, value = output.text.removeprefix("step ").split(": ")
    data = json.loads(chart.get_attribute("data-chart"))["lines"][0]
    assert float(value) == data["values"][data["steps"].index(int(step))]
    assert int(step) in (3, 4)


@pytest.mark.parametrize("width", [360, 800])
def test_no_page_is_wider_than_its_window(browser, pages, width):
    for page in pages:
        show(browser, page, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_light_and_dark(browser, pages):
    papers = []
    for scheme in ("light", "dark"):
        preference = [dict(name="prefers-color-scheme", value=scheme)]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=preference))
        show(browser, pages[0])
        colours = browser.execute_script(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
        papers.append([sum(map(int, colour[4:-1].split(","))) for colour in colours])
    (light_paper, light_ink), (dark_paper, dark_ink) = papers
    assert light_paper > 700 > 200 > light_ink
    assert dark_ink > 600 > 150 > dark_paper
