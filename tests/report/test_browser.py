"""The report in a real browser: it sorts, its links open cards, it fits a phone, and axe-core has nothing serious."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from report_pages import pictured

pytestmark = pytest.mark.slow
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "this test needs Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(pictured(), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report on a desktop; it must ask for nothing and complain of nothing."""
    context = browser.new_context(viewport=DESKTOP)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    yield page
    assert [url for url in asked if not url.startswith(("data:", report.as_uri()))] == []
    assert said == []
    context.close()


def column(page: Page, table: str, number: int) -> list[str]:
    cells = page.locator(f'table[aria-label="{table}"] tbody tr > :nth-child({number})').all()
    return [cell.inner_text().split()[0] for cell in cells]


def test_a_click_on_a_heading_sorts_and_another_turns_it_round(page: Page) -> None:
    before = column(page, "Models", 2)
    heading = page.locator('table[aria-label="Models"]').get_by_role("button", name="Model and the path of its card")
    heading.click()
    assert column(page, "Models", 2) == sorted(before)
    heading.click()
    assert column(page, "Models", 2) == sorted(before, reverse=True)
    effects = [float(text) for text in column(page, "Factor effects", 4)]
    page.locator('table[aria-label="Factor effects"]').get_by_role("button", name="Relative AUC").click()
    assert [float(text) for text in column(page, "Factor effects", 4)] == sorted(effects)


def test_a_grid_leads_to_a_card_which_opens(page: Page) -> None:
    grid = page.locator("details", has=page.locator("table.grid")).first
    grid.locator("summary").click()
    link = grid.locator("tbody th a").first
    anchor = link.get_attribute("href") or ""
    card = page.locator(anchor)
    assert not card.is_visible()
    link.click()
    card.wait_for(state="visible")
    assert "1,234" in card.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_everybody_can_read_it(browser: Browser, report: Path, scheme: str, viewport: dict[str, int]) -> None:
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "the page is wider than its screen"
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], one["help"], one["nodes"][0]["html"][:200]) for one in serious]
    context.close()


def test_it_prints(page: Page) -> None:
    assert page.pdf(format="A4").startswith(b"%PDF")
