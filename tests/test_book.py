"""The built book, read as files and in a browser: run `make book` first."""

import base64
import functools
import http.server
import os
import shutil
import threading
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml

from bloodcells.paths import ROOT

HTML = ROOT / "_build" / "html"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Quiet, offline and able to run as root in a container.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
on_both_screens = pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
HEAVIEST = 1_500_000  # bytes of a page with its pictures


def toc_pages():
    """List the pages of the table of contents in reading order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [f"{page}.html" for page in (toc["root"], *parts)]


PAGES = toc_pages()
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]


@pytest.fixture(scope="module")
def soups():
    from bs4 import BeautifulSoup

    missing = [page for page in ("index.html", *PAGES) if not (HTML / page).is_file()]
    if missing:
        pytest.fail(f"the book is not built, {missing[0]} is missing in _build/html: run `make book`.")
    return {
        path.relative_to(HTML).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(HTML.rglob("*.html"))
        if "_static" not in path.relative_to(HTML).parts
    }


@pytest.fixture(scope="module")
def site(soups):
    """Serve the book on this machine and give its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(HTML))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        # Whoever has none must say so: a skipped check would pass for one that was made.
        if os.environ.get("BLOODCELLS_NO_BROWSER"):
            pytest.skip("BLOODCELLS_NO_BROWSER is set, the pages were not checked in a browser")
        pytest.fail("no Chromium: install chromium or google-chrome, or set BLOODCELLS_NO_BROWSER=1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, site):
    """Open pages of the book and collect whatever goes wrong in them."""
    contexts = []

    def open_page(path, viewport=DESKTOP, mode="light"):
        context = browser.new_context(viewport=viewport)
        # What the theme's own button remembers.
        context.add_init_script(
            f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}')"
        )
        contexts.append(context)
        page = context.new_page()
        page.troubles = []
        page.on(
            "console",
            lambda message: message.type in ("error", "warning") and page.troubles.append(message.text),
        )
        page.on("pageerror", lambda error: page.troubles.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: page.troubles.append(f"failed: {request.url}"))
        page.on(
            "response",
            lambda response: (
                response.status >= 400 and page.troubles.append(f"status {response.status}: {response.url}")
            ),
        )
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("http:", "https:"))
                and not request.url.startswith(site)
                and page.troubles.append(f"foreign host: {request.url}")
            ),
        )
        page.goto(f"{site}/{path}", wait_until="load")
        if path == "index.html":
            page.wait_for_url(f"{site}/{PAGES[0]}")
        page.evaluate("window.MathJax?.startup?.promise.then(() => null)")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.book
def test_every_page_has_a_title_and_one_heading(soups):
    titles = [soups[page].title.get_text() for page in PAGES]
    assert len(set(titles)) == len(PAGES)
    for page in PAGES:
        headings = soups[page].select("article h1")
        assert len(headings) == 1, page


@pytest.mark.book
def test_no_marker_is_left_unfilled(soups):
    for name, soup in soups.items():
        assert "generated:" not in str(soup), name


@pytest.mark.book
def test_data_page_counts_the_images_of_the_splits(soups):
    # Straight from the committed file, past all the code that made the page.
    lines = (ROOT / "data" / "splits" / "jiangxi.csv").read_text(encoding="utf-8").split()
    rows = [
        [cell.get_text() for cell in row.find_all("td")] for row in soups["book/data.html"].find_all("tr")
    ]
    overview, *types, total = [cells for cells in rows if cells and cells[0] == "jiangxi"]
    assert overview[2] == total[-1] == str(len(lines) - 1)
    assert len(types) == 5
    splits = [sum(f",{split}," in line for line in lines) for split in ("train", "val", "test")]
    assert [int(cell) for cell in total[2:-1]] == splits


@pytest.mark.book
def test_no_page_tells_where_it_was_built(soups):
    for name in soups:
        assert str(ROOT) not in (HTML / name).read_text(encoding="utf-8"), name


@pytest.mark.book
def test_index_leads_to_the_first_page_and_has_an_icon(soups):
    index = soups["index.html"]
    assert index.find("meta", attrs={"http-equiv": "refresh"})["content"] == f"0; url={PAGES[0]}"
    assert index.find("a")["href"] == PAGES[0]
    icon = index.find("link", rel="icon")["href"].removeprefix("data:image/svg+xml;base64,")
    assert base64.b64decode(icon) == (ROOT / "book" / "_static" / "favicon.svg").read_bytes()
    assert index.title.get_text() == soups[PAGES[0]].title.get_text().split(" — ")[-1]


@pytest.mark.book
def test_links_within_the_book_lead_somewhere(soups):
    anchors = {
        name: {tag.get("id") for tag in soup.find_all(id=True)}
        | {tag.get("name") for tag in soup.find_all("a", attrs={"name": True})}
        for name, soup in soups.items()
    }
    broken = []
    for name, soup in soups.items():
        for link in soup.find_all("a", href=True):
            target, anchor = urldefrag(link["href"])
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            path = (HTML / name).parent / unquote(target) if target else HTML / name
            path = path.resolve()
            if not path.is_file():
                broken.append(f"{name}: {link['href']}")
                continue
            page = path.relative_to(HTML).as_posix()
            # The theme's "#" takes the reader to the top.
            if anchor and page in anchors and unquote(anchor) not in anchors[page]:
                broken.append(f"{name}: {link['href']}")
    assert broken == []


@pytest.mark.book
def test_every_image_has_an_alternative_text(soups):
    bare = [
        f"{name}: {image.get('src')}"
        for name, soup in soups.items()
        for image in soup.find_all("img")
        if not image.get("alt", "").strip()
    ]
    assert bare == []


@pytest.mark.book
@pytest.mark.parametrize("path", PAGES)
def test_page_is_light(soups, path):
    """Of a page count its HTML and its pictures.

    Scripts, styles and the formulas' fonts are the same for all pages; a browser loads them once and keeps
    them.
    """
    images = {image["src"] for image in soups[path].find_all("img") if not image["src"].startswith("data:")}
    files = [HTML / path, *((HTML / path).parent / unquote(src) for src in images)]
    assert sum(file.stat().st_size for file in files) < HEAVIEST


@pytest.mark.book
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_can_be_opened_elsewhere(soups, chapter):
    links = {unquote(link["href"]) for link in soups[chapter].find_all("a", href=True)}
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    source, buttons = config["repository"], config["launch_buttons"]
    notebook = chapter.removesuffix(".html") + ".ipynb"
    assert (ROOT / source["path_to_book"] / notebook).is_file()
    repository, branch = urlsplit(source["url"]).path.strip("/"), source["branch"]
    assert f"{buttons['binderhub_url']}/v2/gh/{repository}/{branch}?urlpath=lab/tree/{notebook}" in links
    assert f"{buttons['colab_url']}/github/{repository}/blob/{branch}/{notebook}" in links


@pytest.mark.book
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_shows_figures_and_no_error(soups, chapter):
    soup = soups[chapter]
    assert soup.select("article figure img")
    assert not soup.select(".output.traceback")
    assert "injected-parameters" not in str(soup)


def load_images(page):
    """Ask for all images: those further down are loaded lazily."""
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.wait_for_function("[...document.images].every(image => image.complete)")


@pytest.mark.browser
@pytest.mark.parametrize("path", ["index.html", *PAGES, "search.html", "genindex.html"])
def test_page_loads_cleanly(open_page, path):
    page = open_page(path)
    page.wait_for_load_state("networkidle")
    assert page.troubles == []
    assert page.locator("h1").count() >= 1
    load_images(page)
    empty = page.evaluate("[...document.images].filter(i => i.naturalWidth === 0).map(i => i.src)")
    assert empty == []
    assert page.locator(".math:not(:has(mjx-container))").count() == 0, "a formula stayed raw"
    assert page.troubles == []


@pytest.mark.browser
def test_reading_in_order_meets_every_page(open_page, site):
    page = open_page(PAGES[0])
    seen = [PAGES[0]]
    while page.locator("a.right-next").count():
        page.locator("a.right-next").click()
        page.wait_for_load_state()
        seen.append(urlsplit(page.url).path.lstrip("/"))
        assert len(seen) <= len(PAGES), seen
    assert seen == PAGES
    page.locator("a.left-prev").click()
    page.wait_for_load_state()
    assert urlsplit(page.url).path.lstrip("/") == PAGES[-2]
    assert page.troubles == []


@pytest.mark.browser
@pytest.mark.parametrize(
    ("word", "found"),
    [("Dice", "book/notation.html"), ("LeakyReLU", "notebooks/05_nasser2025_wcsegnet.html")],
)
def test_search_finds_a_word(open_page, word, found):
    page = open_page(f"search.html?q={word}")
    page.wait_for_selector("#search-results li a")
    links = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any(urlsplit(link).path.lstrip("/") == found for link in links), links
    assert page.troubles == []


@pytest.mark.browser
@on_both_screens
@pytest.mark.parametrize("path", PAGES)
def test_page_fits_the_screen(open_page, path, viewport):
    page = open_page(path, viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    # Nothing may be cut off either: what is wider than the screen stands in a box that scrolls.
    cut = page.evaluate(
        """() => [...document.querySelectorAll('article :is(p, li, table, figure, pre, img, mjx-container)')]
        .filter(element => element.getBoundingClientRect().right > window.innerWidth + 1)
        .filter(element => {
            for (let box = element; box; box = box.parentElement)
                if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return false;
            return true;
        })
        .map(element => element.outerHTML.slice(0, 120))"""
    )
    assert cut == []


@pytest.mark.browser
@pytest.mark.parametrize("path", CHAPTERS)
def test_wide_figures_scroll_on_a_phone(open_page, path):
    """They would be too small to read there; their captions stay in sight, and a keyboard can reach them."""
    page = open_page(path, PHONE)
    figures = page.locator("article figure").evaluate_all(
        """figures => figures.map(figure => ({
            wide: figure.classList.contains('wide'),
            focus: figure.tabIndex,
            drawn: figure.querySelector('img').naturalWidth,
            shown: figure.querySelector('img').getBoundingClientRect().width,
            caption: figure.querySelector('figcaption').getBoundingClientRect().width,
        }))"""
    )
    assert figures
    for figure in figures:
        assert figure["wide"] == (figure["drawn"] >= 1800)
        assert figure["focus"] == (0 if figure["wide"] else -1)
        assert (figure["shown"] > 1.5 * PHONE["width"]) == figure["wide"]
        assert figure["caption"] < PHONE["width"]


@pytest.mark.browser
@pytest.mark.parametrize("path", PAGES)
def test_pictures_are_sharp_on_dense_screens(open_page, path):
    """Two pixels of the screen for one of the page want two pixels of the picture."""
    page = open_page(path, DESKTOP)
    load_images(page)
    ratios = page.locator("article img").evaluate_all(
        """images => images.filter(image => !image.src.endsWith('.svg')).map(
            image => [image.src, image.naturalWidth / image.getBoundingClientRect().width])"""
    )
    assert ratios or path not in CHAPTERS
    assert [(source, ratio) for source, ratio in ratios if ratio <= 1.9] == []


# Colours don't depend on the width.
@pytest.mark.browser
@pytest.mark.parametrize(
    ("mode", "viewport"),
    [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE)],
    ids=["light-desktop", "dark-desktop", "light-phone"],
)
@pytest.mark.parametrize("path", PAGES)
def test_page_is_accessible(open_page, path, mode, viewport):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(path, viewport, mode)
    assert page.evaluate("document.documentElement.dataset.theme") == mode
    violations = Axe().run(page).response["violations"]
    grave = [
        f"{violation['id']}: {violation['help']}: {violation['nodes'][0]['html'][:160]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert grave == []


@pytest.mark.browser
@pytest.mark.parametrize("path", [PAGES[0], CHAPTERS[0]])
def test_a_keyboard_comes_past_the_contents_to_the_page(open_page, path):
    page = open_page(path)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
