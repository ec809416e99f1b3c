"""Make docs/report.png from a report's page: three parts of it, side by side.

    python docs/report_picture.py nsd-prep-output/report/index.html

It needs Chromium, and Pillow.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1040, 1500
SECTIONS = ("", "geometry", "agreement")
TARGET = Path(__file__).with_name("report.png")


def main() -> None:
    """Photograph the page and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page.resolve()
    whole = photograph(page)
    parts = [whole.crop((0, top, WIDTH, top + HEIGHT)) for top in tops(page)]
    gap = 24
    picture = Image.new("RGB", (len(parts) * (WIDTH + gap) - gap, HEIGHT), "#dfe3e8")
    for place, part in enumerate(parts):
        picture.paste(part, (place * (WIDTH + gap), 0))
    picture.thumbnail((1600, 1600), Image.Resampling.LANCZOS)
    picture.quantize(128, method=Image.Quantize.MEDIANCUT).save(TARGET, optimize=True)


def photograph(page: Path) -> Image.Image:
    """Return the whole page as a picture."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "page.png"
        _chromium(f"--window-size={WIDTH},14000", f"--screenshot={target}", page.as_uri())
        return Image.open(target).convert("RGB")


def tops(page: Path) -> list[int]:
    """Return where the sections begin, in pixels from the top."""
    text = page.read_text(encoding="utf-8")
    script = (
        f"<script>document.title = JSON.stringify({list(SECTIONS)}.map("
        "id => id ? document.getElementById(id).getBoundingClientRect().top : 24))</script>"
    )
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "page.html"
        probe.write_text(text.replace("</body>", script + "</body>"), encoding="utf-8")
        found = _chromium(f"--window-size={WIDTH},14000", "--dump-dom", probe.as_uri())
    title = found.split("<title>")[1].split("</title>")[0]
    return [max(0, round(float(top)) - 24) for top in title.strip("[]").split(",")]


def _chromium(*options: str) -> str:
    return subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    main()
