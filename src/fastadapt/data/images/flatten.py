"""Decoded pictures of any mode in 8 bits, without transparency: laid on white, or on black where white hides them."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_SEEN = 32  # levels of 256 by which a pixel differs from the background that shows it
_HIDDEN = 0.05  # share of what is drawn that white may show while it counts as hidden


def flatten(picture: "Picture") -> "Picture":
    """Return the picture in 8 bits a channel and in mode 1, L or RGB.

    16-bit grey is scaled. What is transparent becomes white; it becomes black if white shows hardly anything of what is
    drawn (at most 5 % of it differs from white by 32 levels or more in any channel) and black shows more.

    Example:
        >>> from PIL import Image
        >>> chalk = Image.new("LA", (4, 4), (255, 0))
        >>> chalk.putpixel((1, 1), (250, 255))
        >>> flatten(chalk).getextrema()
        ((0, 250), (0, 250), (0, 250))
    """
    from PIL import Image

    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255
        values = np.asarray(picture).astype(np.int64)
        grey = Image.fromarray(((values.clip(0, 65535) + 128) // 257).astype(np.uint8))
        clear = picture.info.get("transparency")
        if not isinstance(clear, int):
            return grey
        opaque = Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
        layer = Image.merge("LA", (grey, opaque)).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, background(layer)), layer).convert("L")
    if is_clear(picture):
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, background(layer)), layer).convert("RGB")
    return picture if picture.mode in ("1", "L", "RGB") else picture.convert("RGB")


def is_clear(picture: "Picture") -> bool:
    """Return whether a picture may be transparent somewhere."""
    return bool({"A", "a"} & set(picture.getbands())) or "transparency" in picture.info


def background(layer: "Picture") -> str:
    """Return "white" or "black": what shows a picture of mode RGBA."""
    pixels = np.asarray(layer)
    alpha = pixels[..., 3].astype(np.float32) / 255
    drawn = float(alpha.sum())
    if drawn == 0 or float(alpha.min()) == 1:
        return "white"
    on_white = alpha * (255 - pixels[..., :3].min(-1).astype(np.float32))
    on_black = alpha * pixels[..., :3].max(-1).astype(np.float32)
    shown = [float(alpha[difference >= _SEEN].sum()) for difference in (on_white, on_black)]
    return "black" if shown[0] <= _HIDDEN * drawn and shown[1] > shown[0] else "white"
