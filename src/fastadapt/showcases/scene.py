"""A picture that is drawn here, so that something can be shown which belongs to nobody."""

import math

import numpy as np

SIDE = 512
SKY, DUSK, SUN = (58, 110, 190), (250, 205, 150), (255, 236, 170)
HILLS = ((96, 120, 150), (70, 104, 96), (44, 84, 52))


def scene(size: int) -> np.ndarray:
    """Return a house by a lake below hills at dusk, `[size, size, 3]`, uint8.

    Args:
        size: pixels a side, at most 512; drawn at 512 and made smaller with a Lanczos filter.

    Example:
        >>> scene(64).shape, scene(64).dtype
        ((64, 64, 3), dtype('uint8'))
    """
    from PIL import Image, ImageDraw

    rows = np.linspace(0, 1, SIDE)[:, None]
    ground = np.asarray(SKY) * (1 - rows) + np.asarray(DUSK) * rows
    picture = Image.fromarray(np.repeat(ground[:, None], SIDE, 1).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((350, 60, 440, 150), fill=SUN)
    for i, colour in enumerate(HILLS):
        heights = [260 + 45 * i + 40 * math.sin(x / (95 - 20 * i) + 2 * i) for x in range(0, SIDE + 8, 8)]
        pen.polygon([(0, SIDE), *zip(range(0, SIDE + 8, 8), heights, strict=True), (SIDE, SIDE)], fill=colour)
    pen.rectangle((0, 430, SIDE, SIDE), fill=(64, 108, 150))
    for i in range(9):
        pen.line((20 + 37 * i, 446 + 7 * i, 150 + 41 * i, 446 + 7 * i), fill=(120, 160, 190), width=3)
    pen.rectangle((110, 280, 260, 420), fill=(214, 196, 170))
    pen.polygon([(95, 285), (185, 195), (275, 285)], fill=(150, 52, 40))
    pen.rectangle((165, 340, 205, 420), fill=(92, 58, 36))
    for left in (124, 216):
        pen.rectangle((left, 305, left + 32, 337), fill=(255, 226, 130), outline=(60, 40, 30), width=4)
    for x, y in ((330, 420), (390, 410), (450, 425), (48, 424)):
        pen.rectangle((x - 7, y - 50, x + 7, y), fill=(84, 58, 36))
        for k in range(3):
            pen.polygon(
                [(x - 46 + 9 * k, y - 44 - 36 * k), (x, y - 130 - 24 * k), (x + 46 - 9 * k, y - 44 - 36 * k)],
                fill=(24, 66 + 14 * k, 40),
            )
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
