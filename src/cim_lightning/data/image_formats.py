"""Formats of images that Pillow and its plugins decode, by suffix and by signature."""

from PIL import Image

from cim_lightning.data.optional_packages import is_installed
from cim_lightning.errors import BadImageError

# Pillow decodes some other formats by external programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif"),
    *(".tif", ".tiff", ".avif"),
)
# Plugins of Pillow: format -> module, package, suffixes
PLUGINS = {
    "HEIF": ("pillow_heif", "pillow-heif", (".heic", ".heif", ".hif")),
    "JXL": ("pillow_jxl", "pillow-jxl-plugin", (".jxl",)),
}
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
CONTAINER_BRANDS = (b"mif1", b"msf1")  # of HEIC and AVIF
JXL_SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")  # a bare codestream, a container


def decodable_suffixes() -> dict[str, str | None]:
    """Return the suffixes of image files: None if they can be decoded, otherwise what to install."""
    found: dict[str, str | None] = dict.fromkeys(SUFFIXES)
    for module, package, suffixes in PLUGINS.values():
        found |= dict.fromkeys(suffixes, None if is_installed(module) else f"pip install {package}")
    return found


def pillow_formats(data: bytes) -> tuple[str, ...]:
    """Return the formats of Pillow to try; registers the plugin that the file needs."""
    if data[4:8] == b"ftyp" and data[8:12] in CONTAINER_BRANDS:
        return ("AVIF", "HEIF") if _register("HEIF") else ("AVIF",)
    plugin = "HEIF" if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS else None
    plugin = "JXL" if data.startswith(JXL_SIGNATURES) else plugin
    if plugin and not _register(plugin):
        raise BadImageError(f"{plugin} files need a plugin: pip install {PLUGINS[plugin][1]}")
    return (plugin,) if plugin else FORMATS


def _register(plugin: str) -> bool:
    """Return whether a plugin is installed; adds its format to Pillow."""
    if not is_installed(PLUGINS[plugin][0]):  # pillow_jxl registers itself on import
        return False
    if plugin == "HEIF" and plugin not in Image.OPEN:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return True
