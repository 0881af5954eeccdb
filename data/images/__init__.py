"""Image files, masks and trimaps.

Example:
    >>> import numpy as np
    >>> from data.images.files import read_gray, read_rgb, read_size, write_png
    >>> write_png("image.png", np.full((2, 3, 3), [200, 100, 50], np.uint8))
    >>> write_png("matte.png", np.array([[0, 128, 255]], np.uint8))
    >>> read_rgb("image.png")[0, 0].tolist()
    [200, 100, 50]
    >>> read_gray("matte.png").tolist()
    [[0, 128, 255]]
    >>> read_size("image.png")  # (height, width), without decoding the pixels
    (2, 3)
"""
