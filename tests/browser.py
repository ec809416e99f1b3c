"""A browser for tests: Debian's chromium, told what to do through playwright."""

import runpy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

#: What takes the documentation's screenshots.
SCREENSHOTS = Path(__file__).parents[1] / "docs" / "screenshots.py"
#: The lowest contrast of WCAG AA: of text, and of large text.
CONTRAST, CONTRAST_OF_LARGE = 4.5, 3.0

#: Returns texts with too little contrast: [text, foreground, background, ratio].
_LOW_CONTRASTS = """([usual, large]) => {
  const rgba = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [R, G, B]) => [
    r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1,
  ];
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const background = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    const canvas = dark ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reverse().reduce((below, layer) => over(layer, below), canvas);
  };
  const luminance = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map((v) => {
      const c = v / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const back = background(element);
    const front = over(rgba(style.color), back);
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (isLarge ? large : usual)) {
      found.push([text.slice(0, 60), style.color, back.map(Math.round).join(" "), ratio]);
    }
  }
  return found;
}"""


@dataclass
class Pages:
    """The pages of a browser, and what they did that nobody sees.

    Attributes
    ----------
    requests : list of str
        Addresses that pages asked for.
    messages : list of str
        What was written to the console, and errors of scripts.
    """

    browser: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @contextmanager
    def page(self, width: int, height: int = 900, **options: Any) -> Iterator[Any]:
        """Give an empty page of some size, in a session of its own."""
        size = {"width": width, "height": height}
        context = self.browser.new_context(viewport=size, **options)
        page = context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        try:
            yield page
        finally:
            context.close()


@contextmanager
def started_browser() -> Iterator[Pages]:
    """Start the system's browser; skip the test where there is none, or nothing to drive it."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        mouse = runpy.run_path(str(SCREENSHOTS))["MOUSE"]
        arguments = ["--no-sandbox", "--disable-gpu", mouse]
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield Pages(browser)
        finally:
            browser.close()


def low_contrasts(page: Any) -> list[tuple[str, str, str, float]]:
    """Return the texts of a page that have less contrast than WCAG AA asks."""
    return list(page.evaluate(_LOW_CONTRASTS, [CONTRAST, CONTRAST_OF_LARGE]))
