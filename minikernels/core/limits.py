"""What every CUDA GPU allows a launch, and the tile sizes that follow from it."""

from minikernels.core.errors import ShapeError

__all__ = ["GRID_LIMIT", "SHARED_LIMIT", "check_grid", "tile_rows"]

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
