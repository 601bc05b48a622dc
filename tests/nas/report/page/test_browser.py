"""The page in a real browser: what it draws, what it asks for, how it is used, and what never runs."""

import shutil

import pytest

from nas.report.page.rendering import MOST_ROWS
from nas.study_page import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

DRAWN = "html[data-charts=drawn]"

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    return write_report(study, path).path.as_uri()


@pytest.fixture(scope="module")
def opened(browser, address):
    """Opens the page, and checks at the end that it asked for nothing and complained of nothing."""
    requests, complaints, contexts = [], [], []

    def open_page(*, width=1400, theme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(address)
        page.wait_for_selector(DRAWN, state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert set(requests) == {address}
    assert complaints == []


@pytest.fixture(scope="module")
def shared(opened):
    """One page for many tests: opening one takes a second or more."""
    return opened(permissions=["clipboard-read", "clipboard-write"])


@pytest.fixture
def page(shared):
    """The shared page as it was when it was opened."""
    shared.evaluate("document.getElementById('trial').close(); scrollTo(0, 0); document.activeElement.blur()")
    return shared


def shown_trial(page):
    return page.locator("#trial-title").inner_text() if page.locator("dialog[open]").count() else None


def open_trial(page, number):
    page.evaluate("number => document.querySelector(`button.trial[data-trial='${number}']`).click()", number)


def point_of(page, chart, number):
    """Where the middle of a trial's point is on the screen."""
    page.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    return page.evaluate(
        """([chart, number]) => {
            const place = document.getElementById(`chart-${chart}`);
            for (const [index, trace] of place.data.entries()) {
                const point = (trace.customdata || []).indexOf(number);
                if (point < 0) continue;
                const { xaxis, yaxis } = place._fullLayout;
                const box = place.querySelector(".nsewdrag").getBoundingClientRect();
                return [box.x + xaxis.d2p(trace.x[point]), box.y + yaxis.d2p(trace.y[point])];
            }
        }""",
        [chart, number],
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_charts_are_drawn_text_is_readable_and_nothing_is_wider_than_the_window(opened, width, theme):
    page = opened(width=width, theme=theme)
    charts = page.locator(".plot")
    assert charts.count() >= 7
    assert page.locator(".plot .main-svg").count() >= charts.count()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(15, 19, 23)") is (theme == "dark")
    assert page.evaluate(UNREACHABLE) == 0
    ratios = page.evaluate(CONTRASTS)
    assert min(ratio for ratio, _ in ratios) >= 4.5, min(ratios)


def test_a_click_on_a_point_shows_its_trial_and_escape_closes_it(page, study):
    number = study.best.number
    page.mouse.click(*point_of(page, "front-macs", number))
    page.wait_for_selector("dialog[open]")
    assert shown_trial(page) == f"Trial {number}"
    assert f"{study.best.macs:,}" in page.locator("#trial-facts").inner_text()
    assert page.locator("#trial-network tbody tr").count() == 4
    page.keyboard.press("ArrowRight")
    assert shown_trial(page) == f"Trial {number + 1 if number + 1 < len(study.trials) else 0}"
    page.keyboard.press("Escape")
    assert shown_trial(page) is None


def test_a_trial_opens_by_the_keyboard_alone_and_focus_returns_to_where_it_was(page):
    page.evaluate("document.querySelector('.skip').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.trial !== undefined"):
            break
    number = page.evaluate("document.activeElement.dataset.trial")
    page.keyboard.press("Enter")
    assert shown_trial(page) == f"Trial {number}"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.trial") == number


def test_the_command_of_a_trial_is_copied_where_its_weights_are_kept(page, study):
    open_trial(page, study.best.number)
    command = page.locator("#trial-command").inner_text()
    assert command.startswith("nas export ")
    assert command.endswith(f" --trial {study.best.number}")
    page.locator("#trial .copy").click()
    page.locator("#trial .copy", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command
    page.keyboard.press("ArrowRight")
    assert not page.locator("#trial .code").is_visible()


def test_the_theme_is_switched_and_remembered(opened):
    page = opened()
    light = page.locator("#chart-best text").first.evaluate("e => getComputedStyle(e).fill")
    page.locator("#theme").click()
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
    fill = "e => getComputedStyle(e).fill"
    for _ in range(100):  # the page's policy forbids what `wait_for_function` does
        if page.locator("#chart-best text").first.evaluate(fill) != light:
            break
        page.wait_for_timeout(100)
    assert page.locator("#chart-best text").first.evaluate(fill) != light
    page.reload()
    page.wait_for_selector(DRAWN, state="attached")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_markup_in_names_and_messages_is_shown_and_never_becomes_an_element(page):
    open_trial(page, 3)
    assert "<img src=x onerror=window.hacked=1>" in page.locator("#trial-facts").inner_text()
    assert page.locator("img").count() == 0
    assert page.locator(".plot a, main b b").count() == 0
    assert page.evaluate("window.hacked") is None
    drawn = page.locator("#chart-options-taken").inner_text()
    assert "<b>bold</b>" in drawn
    assert "&lt;" not in drawn
    hover = page.evaluate("document.getElementById('chart-options-taken').data[0].text[1][0]")
    assert "<b>" not in hover


def test_without_javascript_the_numbers_are_still_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "Charts need JavaScript" in page.locator("noscript").inner_text()
    assert page.locator("table.network").count() == 2
    assert 0 < page.locator("#front tbody tr").count() <= 2 * MOST_ROWS
    context.close()


UNREACHABLE = """
[...document.querySelectorAll(".scroll, pre")].filter(
    (box) => box.offsetParent && box.scrollWidth > box.clientWidth && box.tabIndex < 0).length
"""
"""How many boxes that scroll cannot be reached by the keyboard."""

CONTRASTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colour) => {
    const [r, g, b] = [...rgba(colour)].slice(0, 3).map((v) => v / 255).map(
      (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const seen = [];
  for (const element of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.offsetParent || element.closest("svg")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    seen.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 80)]);
  }
  return seen;
})()
"""


@pytest.mark.parametrize(("width", "theme"), [(400, "dark"), (1400, "light")])
def test_a_page_of_several_studies_and_what_came_after_them_is_drawn_without_a_complaint(
    browser, searches, left, tmp_path, width, theme
):
    left.training(tmp_path / "after" / "run", digest="aa")
    left.write(tmp_path / "after" / "scores.json", left.scores(classes=20))
    left.write(tmp_path / "after" / "search.json", left.scaling())
    address = write_report([*searches, tmp_path / "after"], tmp_path / "page.html").path.as_uri()
    complaints, requests = [], []
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme) as context:
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector(DRAWN, state="attached")
        assert page.locator(".plot .main-svg").count() >= page.locator(".plot").count() >= 15
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("window.hacked") is None
        assert page.locator("#scores .plot").first.get_attribute("aria-label")
    assert set(requests) == {address}
    assert complaints == []
