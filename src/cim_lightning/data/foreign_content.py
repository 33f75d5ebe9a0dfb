"""Names of contents that people find in files with the name of an image."""

TEXT_BYTES = bytes(range(32, 127)) + b"\t\n\r\f"
SIGNATURES = {
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "a PostScript document",
    b"8BPS": "a Photoshop file",
    b"\x1aE\xdf\xa3": "a video",
    b"version https://git-lfs": "a Git LFS pointer; run git lfs pull",
}
HEAD = 512  # bytes that are needed


def describe_content(head: bytes) -> str:
    """Return what a file is that is no image, such as "a ZIP archive"; "" if that is unknown.

    Args:
        head: the first bytes of the file, or all.
    """
    head = head[:HEAD]
    for signature, name in SIGNATURES.items():
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp":
        return "a video, or an image in a format that is not supported"
    if not head.strip(b"\0"):
        return "only zeros"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if b"<svg" in start:
        return "an SVG drawing"
    if not head.translate(None, TEXT_BYTES):
        return "text"
    return ""
