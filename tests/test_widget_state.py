"""StateView without a browser: the recurrence, what is remembered, what is refused."""

import numpy as np
import pytest
import traitlets

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.widgets import StateView


def inputs(T=7, D=3, seed=0):
    return tuple(np.random.default_rng(seed).standard_normal((3, T, D)).astype(np.float32))


@pytest.mark.parametrize("T, D", [(1, 1), (7, 3), (40, 5)])
def test_state_is_the_decayed_sum_of_outer_products(T, D):
    q, k, v = inputs(T, D)
    view = StateView(q, k, v, decay=np.float64(0.8), step=np.int64(T - 1))
    weight = 0.8 ** np.arange(T)[::-1]
    np.testing.assert_allclose(view.state, np.einsum("t,ti,tj->ij", weight, k.astype(float), v.astype(float)))
    np.testing.assert_allclose(view.memory, weight)
    assert view.norms.shape == (T,) and view.norms[-1] == pytest.approx(np.linalg.norm(view.state))


def test_state_with_gates_decays_row_by_row():
    q, k, v = inputs(6, 2)
    gate = -np.random.default_rng(1).random((6, 2))
    view = StateView(q, k, v, gate=gate, step=4)
    since = np.exp(np.cumsum(gate[1:5][::-1], axis=0)[::-1])
    weight = np.concatenate([since, np.ones((1, 2))])
    np.testing.assert_allclose(view.state, np.einsum("ti,ti,tj->ij", weight, k[:5].astype(float), v[:5].astype(float)))
    np.testing.assert_allclose(view.memory, weight.mean(1))
    view.decay = 0.5
    assert view.decay == 1.0


def test_state_view_can_be_observed_and_stays_inside():
    heard, view = [], StateView(*inputs())
    view.observe(lambda change: heard.append((change.name, change.new)), ["step", "decay"])
    view.step, view.decay, view.step = 2, 0.5, 99
    assert heard == [("step", 2), ("decay", 0.5), ("step", 6)]
    assert view.title == "StateView: token 6 of 6, a state of 36 B where a cache holds 84 B"
    with pytest.raises(traitlets.TraitError, match="decay is from 0 to 1"):
        view.decay = 1.5


@pytest.mark.parametrize("change, error, message", [
    ({"q": np.ones((7, 4), np.float32)}, ShapeError, "D=3 must equal D=4 of q"),
    ({"k": np.ones((1, 7, 3))}, ShapeError, "k has shape"), ({"v": np.ones((7, 3), int)}, DtypeError, "v holds int64"),
    ({"v": np.full((7, 3), np.nan)}, ValueError, "v holds NaN"), ({"decay": -0.1}, traitlets.TraitError, "from 0 to 1"),
    ({"gate": np.ones((7, 3))}, ValueError, "log-gate above 0"), ({"gate": np.zeros((7, 2))}, ShapeError, "gate has"),
    ({"gate": -np.ones((7, 3)), "decay": 0.5}, ValueError, "two factors of one state")])
def test_state_view_refuses(change, error, message):
    q, k, v = inputs()
    given = {"q": q, "k": k, "v": v, **change}
    with pytest.raises(error, match=message):
        StateView(given.pop("q"), given.pop("k"), given.pop("v"), **given)


@pytest.mark.parametrize("T, D", [(0, 3), (2, 0), (1025, 1), (2, 129)])
def test_state_view_refuses_what_no_picture_holds(T, D):
    with pytest.raises(ValueError, match="is a whole number from 1 to"):
        StateView(*(np.ones((T, D)) for _ in "qkv"))


def test_state_view_page_and_picture_are_small_and_repeatable(tmp_path):
    view = StateView(*inputs(256, 64))
    assert view.to_svg() == view.to_svg() and len(view.to_svg()) < 200_000
    assert view.to_html(tmp_path / "p.html").stat().st_size < 400_000
