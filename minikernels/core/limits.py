"""What every CUDA GPU allows a launch, and the tile sizes that follow from it."""

from minikernels.core.errors import ShapeError

__all__ = ["GRID_LIMIT", "SHARED_LIMIT", "check_grid", "heads_in_cache", "tile_rows"]

GRID_LIMIT = 65_535  # blocks along y and along z
SHARED_LIMIT = 48 * 1024  # bytes of static shared memory of a block


def check_grid(**sizes):
    """Raise ShapeError where a size does not fit on the grid's y or z axis: ``check_grid(H=H, B=B)``."""
    for letter, size in sizes.items():
        if size > GRID_LIMIT:
            raise ShapeError(f"{letter}={size} must be at most {GRID_LIMIT}: the kernel's grid has no room for more")


def tile_rows(width, arrays=2, largest=32):
    """Return how many rows of `width` float32 a shared tile holds: `arrays` such tiles stay within 48 KB.

    >>> tile_rows(64), tile_rows(128), tile_rows(256)
    (32, 32, 16)
    """
    rows = largest
    while rows > 1 and arrays * rows * width * 4 > SHARED_LIMIT:
        rows //= 2
    return rows


def heads_in_cache(room, share, S, row_bytes):
    """Return how many query heads have keys and values that take `room` bytes together: all that share some, at least.

    Parameters
    ----------
    room : int
        Bytes of an L2 cache.
    share : int
        Query heads of a key/value head.
    S, row_bytes : int
        Keys of a head, and bytes of one.

    Examples
    --------
    >>> heads_in_cache(16 << 20, 4, 4096, 256), heads_in_cache(16 << 20, 4, 10**6, 256)
    (32, 4)
    """
    return share * max(1, room // (2 * max(1, S) * row_bytes))
