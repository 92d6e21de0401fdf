"""Images for the doctor's report: a chart of the ages, and sheets of copies side by side.

They are drawn with Pillow only.  The sheets show faces of the data set: they are private.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from agebench.errors import ImageError

TILE_PX = 150
_LINE_PX = 14
_CAPTION_PX = 3 * _LINE_PX
_GAP_PX = 8
MOST_COPIES = 4
"""Most copies of one picture on a sheet; the caption states the total."""

SHEET_WIDTH_PX = 1340
LINES_PER_SHEET = 6


@dataclass(frozen=True, slots=True)
class SheetTile:
    """One picture on a sheet: its file and the lines below it."""

    path: Path
    caption: tuple[str, ...]


def png_bytes(picture: PillowImage.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def age_chart(ages: Mapping[int, int], title: str) -> PillowImage.Image:
    """Draw a bar chart of pictures per year of age.

    Args:
        ages: pictures per completed year; may be empty.
        title: the line above.
    """
    bar, height, left, top, bottom = 9, 320, 70, 40, 40
    last = max(ages, default=0) // 10 * 10 + 10
    chart = PillowImage.new("RGB", (left + bar * (last + 1) + 20, top + height + bottom), "white")
    draw, font = ImageDraw.Draw(chart), ImageFont.load_default(12)
    draw.text((left, 12), title, fill="black", font=font)
    most = max(ages.values(), default=1)
    base = top + height
    for fraction in (0.0, 0.5, 1.0):
        y = base - fraction * height
        draw.line([(left, y), (left + bar * (last + 1), y)], fill="#cccccc")
        draw.text((left - 6, y), f"{fraction * most:,.0f}", fill="black", font=font, anchor="rm")
    for year, pictures in ages.items():
        x = left + bar * year
        draw.rectangle([(x, base - pictures / most * height), (x + bar - 2, base)], fill="#3b6ea5")
    for year in range(0, last + 1, 10):
        x = left + bar * year + bar // 2
        draw.text((x, base + 6), str(year), fill="black", font=font, anchor="ma")
    draw.text((left, base + 22), "age in years", fill="black", font=font)
    return chart


def contact_sheets(groups: Sequence[Sequence[SheetTile]]) -> list[PillowImage.Image]:
    """Draw copies side by side, group after group, `LINES_PER_SHEET` lines to a sheet.

    Args:
        groups: the pictures of each group, of which the first `MOST_COPIES` are drawn.
    """
    widest = min(MOST_COPIES, max((len(group) for group in groups), default=1))
    cell_w = widest * (TILE_PX + _GAP_PX) + 2 * _GAP_PX
    columns = SHEET_WIDTH_PX // cell_w
    per_sheet = columns * LINES_PER_SHEET
    parts = [groups[at : at + per_sheet] for at in range(0, len(groups), per_sheet)]
    return [_sheet(part, cell_w, columns) for part in parts]


def _sheet(groups: Sequence[Sequence[SheetTile]], cell_w: int, columns: int) -> PillowImage.Image:
    cell_h = TILE_PX + _CAPTION_PX + _GAP_PX
    sheet = PillowImage.new("RGB", (columns * cell_w, -(-len(groups) // columns) * cell_h), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, group in enumerate(groups):
        left, top = number % columns * cell_w + _GAP_PX, number // columns * cell_h + _GAP_PX // 2
        for tile in group[:MOST_COPIES]:
            sheet.paste(_tile_picture(tile.path), (left, top))
            for line, text in enumerate(tile.caption[:3]):
                at = (left, top + TILE_PX + line * _LINE_PX)
                draw.text(at, _fitting(text, font), fill="black", font=font)
            left += TILE_PX + _GAP_PX
    return sheet


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a line at its start to a tile's width, as names differ at their end."""
    short = text = "".join(letter if letter.isprintable() else "?" for letter in text[-200:])
    while font.getlength(short) > TILE_PX and len(text) > 1:
        text = text[1:]
        short = "…" + text
    return short


def _tile_picture(path: Path) -> PillowImage.Image:
    from agebench.vision.images import read_image

    tile = PillowImage.new("RGB", (TILE_PX, TILE_PX), "#dddddd")
    try:
        picture = PillowImage.fromarray(read_image(path)[:, :, ::-1])
    except ImageError:  # deleted since it was examined: its tile stays gray
        return tile
    picture.thumbnail((TILE_PX, TILE_PX))
    tile.paste(picture, ((TILE_PX - picture.width) // 2, (TILE_PX - picture.height) // 2))
    return tile
