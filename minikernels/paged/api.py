"""The public function of paged: validate, pick the rung, call it where the data lives."""

from importlib import import_module

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import FLOATS, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import Ladder, architecture, back, gathered

DECODE = Ladder("paged", {  # rung -> where its function stands, from the equation to the fastest kernel
    "reference": "reference.decode",
    "tiled": "tiled.decode",
    "v1_gather": "numba_cuda.launch_v1_gather",
    "v2_page_table": "numba_cuda.launch_v2_page_table",
    "v3_warp_key": "numba_cuda.launch_v3_warp_key",
    "v4_fetch_ahead": "raw.launch_v4_fetch_ahead",
    "v5_split_kv": "raw.launch_v5_split_kv",
    "v6_mma_group": "raw.launch_v6_mma_group",
    "v7_async_ring": "raw.launch_v7_async_ring",
    "v8_stream_k": "raw.launch_v8_stream_k",
}, takes=dict.fromkeys(("v6_mma_group", "v7_async_ring", "v8_stream_k"), ("float16",)))
MARKS = ("v7_async_ring", "v8_stream_k")  # rungs that make NaN of what is out of range themselves


def decode(q, k_pages, v_pages, page_table, lengths, *, scale=None, rung=None):
    """Return attention of one new token a sequence over keys and values that lie in pages.

    Parameters
    ----------
    q : array of shape (B, H, D), float16 or float32 (float64 too in the NumPy rungs)
        The new token's queries: a NumPy array, a CuPy array, or anything on a GPU with DLPack.
    k_pages, v_pages : array of shape (pages, P, G, D), of q's kind and dtype
        The pool that all sequences have their pages in; query head h reads head ``h // (H / G)``.
    page_table : array of shape (B, max_pages), int32 or int64
        Token t of sequence b is in page ``page_table[b, t // P]``, slot ``t % P``. Entries past a sequence's last page
        are not looked at; two sequences may share pages.
    lengths : array of shape (B,), int32 or int64
        Tokens of each sequence, the new one included, 0 to max_pages * P.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.
    rung : str, optional
        One of `DECODE`. A rung asked for by name runs or raises. The default is ``tiled`` for NumPy arrays and the
        fastest kernel that takes these inputs for arrays on a GPU.

    Returns
    -------
    array of shape (B, H, D), of q's kind and dtype
        0 in sequences of length 0.

    Raises
    ------
    ShapeError
        If a shape does not fit, or G does not divide H, or a length or a page is out of range, or D is too wide for
        the rung.
    DtypeError
        If dtypes differ, or the rung does not take them.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name.

    Notes
    -----
    On a GPU, looking at lengths and pages would make the host wait for it: there a sequence with a length or a page
    that is out of range comes out as NaN. Work 4*H*D*sum(lengths) FLOP over 2*G*D*sum(lengths) numbers of the pool.

    References
    ----------
    .. [1] Kwon et al., Efficient Memory Management for Large Language Model Serving with PagedAttention,
       arXiv:2309.06180.

    Examples
    --------
    >>> q, k_pages = np.ones((2, 4, 2), np.float32), np.ones((3, 2, 1, 2), np.float32)
    >>> page_table = np.array([[2, 0], [0, -1]], np.int32)
    >>> decode(q, k_pages, k_pages, page_table, np.array([3, 0], np.int32))[:, 0]
    array([[1., 1.],
           [0., 0.]], dtype=float32)
    """
    DECODE.check_name(rung)
    arrays = {"q": q, "k_pages": k_pages, "v_pages": v_pages, "page_table": page_table, "lengths": lengths}
    missing = [name for name, x in arrays.items() if x is None]
    if missing:
        raise DtypeError(f"{missing[0]} is None; it must be an array")
    (q, k_pages, v_pages, page_table, lengths), like, place = gathered(**arrays)
    pool = ("pages", "P", "G", "D")
    sizes = bind(q=(q, "BHD"), k_pages=(k_pages, pool), v_pages=(v_pages, pool),
                 page_table=(page_table, ("B", "max_pages")), lengths=(lengths, "B"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k_pages=k_pages, v_pages=v_pages)
    DECODE.check_place(rung, place)
    empty = 0 in sizes.values()
    rung = rung or ("tiled" if empty or place == "cpu" else fastest_on_gpu(q, k_pages, v_pages))
    page_table, lengths = checked(page_table, lengths, sizes, place, marks=rung in MARKS and not empty)
    scale = score_scale(scale, sizes["D"])
    if empty:
        bad = lengths[:, None, None] < 0
        return back(np.where(bad, q.dtype.type(np.nan), np.zeros_like(q)), like)
    DECODE.check_dtype(rung, q=q)
    o = DECODE.function(rung)(q, k_pages, v_pages, page_table, lengths, scale)
    return back(o.astype(q.dtype, copy=False), like)


def checked(page_table, lengths, sizes, place, marks):
    """Return page_table and lengths as int32; on a GPU, length -1 marks a sequence with something out of range.

    But as they are for a kernel that `marks` it itself, if their numbers are of a kind that it reads.
    """
    same_dtype(("int32", "int64"), page_table=page_table)
    same_dtype(("int32", "int64"), lengths=lengths)
    pages, P, max_pages = sizes.unpack(("pages", "P", "max_pages"))
    if place == "gpu":
        if marks and page_table.dtype == lengths.dtype == np.int32:
            return page_table, lengths
        safe = import_module("minikernels.paged.raw").screened(page_table, lengths, P, pages)
        return page_table.astype(np.int32, copy=False), safe
    wrong = (lengths < 0) | (lengths > max_pages * P)
    if wrong.any():
        b = int(np.argmax(wrong))
        rule = f"a sequence has 0 to max_pages*P = {max_pages}*{P} = {max_pages * P} tokens"
        raise ShapeError(f"lengths[{b}] is {int(lengths[b])}; {rule}")
    used = np.arange(max_pages) * P < lengths[:, None]
    wrong = used & ((page_table < 0) | (page_table >= pages))
    if wrong.any():
        b, j = (int(i) for i in np.argwhere(wrong)[0])
        raise ShapeError(f"page_table[{b}, {j}] is {int(page_table[b, j])}; the pool has the pages 0 to {pages - 1}")
    return page_table.astype(np.int32, copy=False), lengths.astype(np.int32, copy=False)


def fastest_on_gpu(q, k_pages, v_pages):
    """Return the name of the fastest rung that takes these CuPy arrays on this GPU."""
    raw = import_module("minikernels.paged.raw")
    for rung in ("v8_stream_k", "v5_split_kv") if architecture() >= raw.NEEDS else ():
        try:
            raw.check(q, k_pages, v_pages, rung)
        except (ShapeError, DtypeError):
            continue
        return rung
    wide = import_module("minikernels.paged.numba_warp").WIDTH_LIMIT
    return "v3_warp_key" if q.shape[2] <= wide else "v2_page_table"
