import numpy as np
import pytest

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.limits import SHARED_LIMIT, check_grid, tile_rows
from minikernels.core.shapes import bind, same_dtype

q, k = np.zeros((1, 8, 5, 64)), np.zeros((1, 3, 7, 64))


def test_letters_are_bound_in_the_order_asked_for():
    assert bind(q=(q, "BHTD"), k=(k, "BGSD")).unpack("DSTGHB") == (64, 7, 5, 3, 8, 1)


def test_a_size_that_does_not_divide_is_told_in_letters():
    with pytest.raises(ShapeError) as caught:
        bind(q=(q, "BHTD"), k=(k, "BGSD")).divides("G", "H")
    assert str(caught.value) == "k has shape (1, 3, 7, 64) = (B, G, S, D); G=3 must divide H=8"


@pytest.mark.parametrize(("G", "H", "fits"), [(1, 8, True), (8, 8, True), (0, 0, True), (3, 0, True), (0, 8, False)])
def test_zero_divides_only_zero(G, H, fits):
    sizes = bind(k=(np.zeros((G, H)), "GH"))
    if fits:
        sizes.divides("G", "H")
    else:
        with pytest.raises(ShapeError, match="G=0 must divide H=8"):
            sizes.divides("G", "H")


def test_two_sizes_of_one_letter_name_both_arrays():
    with pytest.raises(ShapeError) as caught:
        bind(q=(q, "BHTD"), v=(np.zeros((1, 3, 7, 32)), "BGSD"))
    assert str(caught.value) == (
        "v has shape (1, 3, 7, 32) = (B, G, S, D); D=32 must equal D=64 of q, "
        "whose shape is (1, 8, 5, 64) = (B, H, T, D)"
    )


@pytest.mark.parametrize(("x", "axes"), [(np.zeros(3), "1 axis"), (np.float64(3), "0 axes"), (q, "4 axes")])
def test_a_wrong_number_of_axes_says_what_is_needed(x, axes):
    with pytest.raises(ShapeError, match=rf"lse has shape .*, {axes}; it must be \(B, H, T\)"):
        bind(lse=(x, "BHT"))


def test_what_is_no_array_is_a_dtype_error():
    with pytest.raises(DtypeError, match=r"q is of type list; it must be an array of shape \(B, D\)"):
        bind(q=([[1.0]], "BD"))


def test_a_size_over_a_limit_is_told_in_letters():
    with pytest.raises(ShapeError, match=r"q has shape .* D=64 must be at most 32: registers"):
        bind(q=(q, "BHTD")).at_most("D", 32, "registers")


def test_dtypes_must_be_allowed_and_alike():
    half, single = np.zeros(2, np.float16), np.zeros(2, np.float32)
    assert same_dtype(("float16", "float32"), q=half, k=half) == "float16"
    with pytest.raises(DtypeError, match="k has dtype float32 and q has float16; q, k and v must share one dtype"):
        same_dtype(("float16", "float32"), q=half, k=single, v=half)
    with pytest.raises(DtypeError, match="q has dtype float16; it must be float32"):
        same_dtype(("float32",), q=half)


@pytest.mark.parametrize("width", [1, 60, 64, 65, 128, 192, 193, 256, 4096, 6144])
def test_two_tiles_of_the_chosen_rows_fit_in_shared_memory(width):
    rows = tile_rows(width)
    assert 2 * rows * width * 4 <= SHARED_LIMIT
    assert rows == 32 or 2 * 2 * rows * width * 4 > SHARED_LIMIT


def test_a_grid_axis_has_a_limit():
    check_grid(H=65_535, B=1)
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        check_grid(H=1, B=65_536)
