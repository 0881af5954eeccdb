"""ICC profiles for tests."""

from PIL import ImageCms


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and green exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    data = bytearray(profile)
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)
