"""Formats of images that are not read, known by their first bytes so that a message can name them."""

_MARKS: dict[bytes, str] = {
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"II+\0": "a BigTIFF",
    b"MM\0+": "a BigTIFF",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
    b"\xff\x4f\xff\x51": "a JPEG 2000",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\1\0": "an ICO",
    b"icns": "an ICNS",
    b"8BPS": "a Photoshop",
    b"qoif": "a QOI",
    b"DDS ": "a DDS",
    b"v/1\1": "an OpenEXR",
    b"#?RADIANCE": "a Radiance HDR",
    b"SIMPLE  =": "a FITS",
    b"%PDF": "a PDF",
    b"%!PS": "a PostScript",
    b"gimp xcf": "a GIMP",
    b"\x93NUMPY": "a NumPy",
    b"\x89HDF": "an HDF5",
    b"PK\3\4": "a zip",
    b"\x1f\x8b": "a gzip",
    b"\x0a\5\1": "a PCX",
    **{b"P%d\n" % i: "a PNM (PGM, PPM)" for i in range(1, 8)},
    **{b"P%d " % i: "a PNM (PGM, PPM)" for i in range(1, 8)},
}
_BRANDS: dict[bytes, str] = {b"avif": "an AVIF", b"avis": "an AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"mif1", b"msf1", b"hevc"), "a HEIC"
)
_DICOM = 128  # where its mark stands


def other_format(content: bytes) -> str | None:
    """Return the format of a file that is not read, with its article, or None if it isn't known.

    Example:
        >>> other_format(b"BM6...."), other_format(b"....ftypavif"), other_format(b"hello")
        ('a BMP', 'an AVIF', None)
    """
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12], "a film or HEIF")
    if content[_DICOM : _DICOM + 4] == b"DICM":
        return "a DICOM"
    head = content[:400].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head):
        return "an SVG"
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
