"""PagePool: whatever is done to it, no sequence is corrupted, no page leaks, and running out loses nothing."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from minikernels import paged
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.paged import OutOfPagesError, PagePool, reference

G, D = 2, 1


def tokens(values):
    """Return k (n, G, D) whose numbers say which token this is, and another v."""
    k = np.array(values, np.float32).reshape(-1, 1, 1) * np.arange(1, G + 1, dtype=np.float32)[:, None]
    return k, -k


def picture(pool):
    """Return everything that a pool holds, to be compared."""
    state = {name: x.copy() if hasattr(x, "copy") else x for name, x in vars(pool).items()}
    return {**state, "held": {sequence: list(pages) for sequence, pages in pool.held.items()}}


def same(first, second):
    """Return whether two pictures agree in every number."""
    alike = [np.array_equal(x, second[name], equal_nan=True) if isinstance(x, np.ndarray) else x == second[name]
             for name, x in first.items()]
    return first.keys() == second.keys() and all(alike)


class AnyOperations(RuleBasedStateMachine):
    """Every operation beside a model that is a list of tokens for each sequence."""

    Pool = PagePool

    @initialize(pages=st.integers(0, 9), P=st.integers(1, 4))
    def begin(self, pages, P):
        self.pool, self.model, self.past = self.Pool(pages, P, G, D, np.float32), {}, set()
        self.pool.k_pages[:], self.pool.v_pages[:] = np.nan, np.nan

    def attempt(self, operation, *args):
        """Return (whether there were pages enough, what the operation returned); if not, nothing has changed."""
        before = picture(self.pool)
        try:
            return True, operation(*args)
        except OutOfPagesError as error:
            assert same(before, picture(self.pool)), f"{operation.__name__} changed the pool and then ran out of pages"
            assert re.search(rf"{self.pool.free_pages} of {len(self.pool.references)} are free", str(error))
            return False, None

    def chosen(self, number):
        """Return one of the sequences."""
        return sorted(self.model)[number % len(self.model)]

    @rule(values=st.lists(st.integers(0, 2), max_size=10))  # few values: pages with equal content are frequent
    def allocate(self, values):
        done, sequence = self.attempt(self.pool.allocate, *tokens(values))
        if done:
            assert sequence not in self.past
            self.past.add(sequence)
            self.model[sequence] = list(values)

    @precondition(lambda self: self.model)
    @rule(number=st.integers(0, 9), values=st.lists(st.integers(0, 2), max_size=10))
    def append(self, number, values):
        sequence = self.chosen(number)
        if self.attempt(self.pool.append, sequence, *tokens(values))[0]:
            self.model[sequence] = self.model[sequence] + values

    @precondition(lambda self: self.model)
    @rule(number=st.integers(0, 9), place=st.integers(0, 99), value=st.integers(0, 2))
    def overwrite(self, number, place, value):
        sequence = self.chosen(number)
        if not self.model[sequence]:
            return
        place = place % len(self.model[sequence])
        if self.attempt(self.pool.overwrite, sequence, place, *(x[0] for x in tokens([value])))[0]:
            self.model[sequence] = [*self.model[sequence][:place], value, *self.model[sequence][place + 1 :]]

    @precondition(lambda self: self.model)
    @rule(number=st.integers(0, 9))
    def fork(self, number):
        sequence = self.chosen(number)
        pages = self.pool.used_pages
        copy = self.pool.fork(sequence)
        assert copy not in self.past and self.pool.used_pages == pages
        self.past.add(copy)
        self.model[copy] = list(self.model[sequence])

    @precondition(lambda self: self.model)
    @rule(number=st.integers(0, 9))
    def free(self, number):
        sequence = self.chosen(number)
        self.pool.free(sequence)
        del self.model[sequence]
        with pytest.raises(ValueError, match=f"there is no sequence {sequence} in the pool"):
            self.pool.free(sequence)

    @invariant()
    def every_sequence_reads_what_was_written_to_it(self):
        assert self.pool.sequences == tuple(self.model)
        for sequence, values in self.model.items():
            for found, expected in zip(self.pool.gather(sequence), tokens(values), strict=True):
                np.testing.assert_array_equal(found, expected)

    @invariant()
    def every_page_is_free_or_has_as_many_references_as_owners(self):
        pool, owned = self.pool, [page for s in self.model for page in self.pool.pages_of(s)]
        assert [owned.count(page) for page in range(len(pool.references))] == pool.references
        assert sorted(pool.unused) == [page for page, n in enumerate(pool.references) if n == 0]
        assert pool.used_pages + pool.free_pages == len(pool.references)
        assert len(pool.page_with) == len(pool.digest_of)
        for page, digest in pool.digest_of.items():
            assert pool.page_with[digest] == page and pool.references[page] and pool.filled[page] == pool.P

    @invariant()
    def no_sequence_holds_more_pages_than_it_needs(self):
        pool, held = self.pool, {}
        for sequence, values in self.model.items():
            pages = pool.pages_of(sequence)
            assert len(pages) == -(-len(values) // pool.P)
            held |= {page: min(pool.P, len(values) - j * pool.P) for j, page in enumerate(pages)}
        slots, used = len(pool.references) * pool.P, len(held) * pool.P
        assert pool.utilisation == (sum(held.values()) / slots if slots else 0.0)
        assert pool.internal_waste == ((used - sum(held.values())) / used if used else 0.0)

    @invariant()
    def decode_sees_each_sequence_alone(self):
        if not self.model or not len(self.pool.references):
            return
        q = np.ones((len(self.model), G, D), np.float32)
        o = paged.decode(q, self.pool.k_pages, self.pool.v_pages, *self.pool.table(self.model))
        for row, values in zip(o, self.model.values(), strict=True):
            k, v = (x.swapaxes(0, 1)[None] for x in tokens(values))
            alone = reference.attend(*(x.astype(float) for x in (q[:1], k, v)), np.array([len(values)]), 1.0)
            np.testing.assert_allclose(row, alone[0], rtol=0, atol=1e-5)

    def teardown(self):
        for sequence in tuple(getattr(self, "model", ())):
            self.pool.free(sequence)
        if hasattr(self, "pool"):
            assert self.pool.used_pages == 0 == self.pool.utilisation
            assert not self.pool.page_with and not any(self.pool.filled)


AnyOperations.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True,
                                           suppress_health_check=list(HealthCheck))
TestAnyOperations = AnyOperations.TestCase


def pool_of(*prompts, pages=8, P=4):
    """Return a pool and one sequence for each prompt."""
    pool = PagePool(pages, P, G, D, np.float32)
    return pool, [pool.allocate(*tokens(prompt)) for prompt in prompts]


def test_a_prompt_that_begins_alike_shares_its_whole_pages():
    pool, (first, second, third) = pool_of(range(10), [*range(8), 99, 98], [99, *range(1, 10)])
    assert pool.pages_of(second)[:2] == pool.pages_of(first)[:2]
    assert pool.pages_of(second)[2] != pool.pages_of(first)[2]
    assert pool.pages_of(third)[1] == pool.pages_of(first)[1]  # content alone decides, wherever it stands
    assert pool.used_pages == 3 + 1 + 2


def test_a_page_that_grew_full_token_by_token_is_found_too():
    pool, (first,) = pool_of([])
    for value in range(5):
        pool.append(first, *(x[0] for x in tokens([value])))
    second = pool.allocate(*tokens(range(4)))
    assert pool.pages_of(second) == pool.pages_of(first)[:1]


def test_a_page_that_was_overwritten_is_found_by_its_new_content_alone():
    pool, (first,) = pool_of([1, 2, 3, 4])
    pool.overwrite(first, -1, *(x[0] for x in tokens([9])))
    assert pool.pages_of(pool.allocate(*tokens([1, 2, 3, 4]))) != pool.pages_of(first)
    assert pool.pages_of(pool.allocate(*tokens([1, 2, 3, 9]))) == pool.pages_of(first)


def test_a_fork_costs_one_page_when_it_parts_and_none_before():
    pool, (parent,) = pool_of(range(6))
    children = [pool.fork(parent) for _ in range(3)]
    assert pool.used_pages == 2
    for value, child in enumerate(children):
        pool.append(child, *tokens([50 + value]))
    assert pool.used_pages == 2 + 3
    pool.free(parent)
    assert pool.used_pages == 1 + 3
    assert len({pool.pages_of(child)[0] for child in children}) == 1


def test_running_out_in_the_middle_of_a_prompt_changes_nothing():
    pool, (first, second) = pool_of(range(6), range(20, 24), pages=4)
    before = picture(pool)
    for operation, args in [(pool.allocate, tokens(range(40, 49))), (pool.append, (first, *tokens(range(40, 60))))]:
        with pytest.raises(OutOfPagesError, match=r"\d pages are needed to append .* and 1 of 4 are free"):
            operation(*args)
    assert same(before, picture(pool))
    pool.free(second)
    pool.append(first, *tokens(range(40, 49)))


def test_utilisation_counts_a_shared_slot_once():
    pool, (first,) = pool_of(range(6))
    assert (pool.utilisation, pool.internal_waste) == (6 / 32, 2 / 8)
    pool.fork(first)
    assert (pool.utilisation, pool.internal_waste) == (6 / 32, 2 / 8)


def test_table_marks_what_is_no_page():
    pool, sequences = pool_of(range(9), [], [5])
    page_table, lengths = pool.table(sequences)
    assert page_table.dtype == lengths.dtype == np.int32
    assert page_table.tolist() == [[0, 1, 2], [-1, -1, -1], [3, -1, -1]]
    assert lengths.tolist() == [9, 0, 1]
    empty, none = pool.table([])
    assert (empty.shape, none.shape) == ((0, 0), (0,))


def f32(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(("k", "v", "error", "message"), [
    (f32(2, 3, 1), f32(2, 3, 1), ShapeError, "k has shape (2, 3, 1) = (n, G, D); G=3 must equal G=2"),
    (f32(2, 2, 1), f32(3, 2, 1), ShapeError, "v has shape (3, 2, 1) = (n, G, D); n=3 must equal n=2"),
    (f32(2, 1), f32(1, 2, 1), ShapeError, "v has shape (1, 2, 1), 3 axes; it must be (G, D)"),
    (f32(2, 1).astype(np.float16), f32(2, 1), DtypeError, "k has dtype float16; it must be float32"),
    ([[0.0], [1.0]], f32(2, 1), DtypeError, "k is of type list"),
    (f32(2, 1), None, DtypeError, "v is of type NoneType"),
], ids=["G", "n", "axes", "dtype", "list", "None"])
def test_tokens_that_do_not_fit_are_refused_and_change_nothing(k, v, error, message):
    pool, (sequence,) = pool_of(range(5))
    before = picture(pool)
    for operation, args in [(pool.allocate, (k, v)), (pool.append, (sequence, k, v)),
                            (pool.overwrite, (sequence, 0, k, v))]:
        with pytest.raises(error, match=re.escape(message)):
            operation(*args)
    assert same(before, picture(pool))


def test_what_is_not_there_is_named():
    pool, (sequence,) = pool_of(range(5))
    for operation in (pool.free, pool.fork, pool.length, pool.pages_of, pool.gather, lambda s: pool.table([s]),
                      lambda s: pool.append(s, *tokens([1]))):
        with pytest.raises(ValueError, match="there is no sequence 7 in the pool: it was freed, or never allocated"):
            operation(7)
    for place in (5, -6):
        with pytest.raises(IndexError, match=f"sequence 0 has 5 tokens; there is no token {place}"):
            pool.overwrite(sequence, place, *tokens([1]))
    with pytest.raises(ShapeError, match="k and v hold 2 tokens; overwrite takes one"):
        pool.overwrite(sequence, 0, *tokens([1, 2]))
    with pytest.raises(ShapeError, match="P must be at least 1"):
        PagePool(4, 0, 1, 1)


class Foreign:
    """An array of another library, on the CPU."""

    shape, ndim, dtype = (2, 1), 2, "float32"

    def __dlpack_device__(self):
        return 1, 0  # kDLCPU


def test_arrays_of_another_home_are_refused():
    pool, (sequence,) = pool_of([1])
    with pytest.raises(DeviceError, match="k is a tests array on the CPU"):
        pool.append(sequence, Foreign(), Foreign())


class NeverCopies(PagePool):
    """Writes to a page that others share."""

    def own(self, sequence, index):
        return self.held[sequence][index]


class LosesAPage(PagePool):
    """Forgets the last page of a sequence that is freed."""

    def free(self, sequence):
        self.held[sequence] = list(self.pages_of(sequence))[:-1]
        super().free(sequence)


class ForksForFree(PagePool):
    """Shares pages and does not count who shares them."""

    def fork(self, sequence):
        copy = super().fork(sequence)
        for page in self.held[copy]:
            self.references[page] -= 1
        return copy


class StaleContent(PagePool):
    """Goes on to find a page by what stood there before it was overwritten."""

    def forget(self, page):
        pass


class CountsTooLittle(PagePool):
    """Asks for one page too few, and is found out when it takes the last."""

    def require(self, pages, purpose):
        super().require(pages - 1, purpose)

    def append(self, sequence, k, v):
        try:
            super().append(sequence, k, v)
        except IndexError as error:
            raise OutOfPagesError("0 of 0 are free") from error


@pytest.mark.parametrize("pool", [NeverCopies, LosesAPage, ForksForFree, StaleContent, CountsTooLittle])
def test_a_broken_pool_is_found(pool):
    machine = type("Broken", (AnyOperations,), {"Pool": pool})
    quick = settings(AnyOperations.TestCase.settings, phases=[Phase.generate], max_examples=200)
    with pytest.raises((AssertionError, IndexError)):
        run_state_machine_as_test(machine, settings=quick)
