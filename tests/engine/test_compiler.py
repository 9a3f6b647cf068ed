"""Programs of the engine: what fits, what is refused and how it is said, what an instruction holds, what a program
tells of itself."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine import CONFIGS, DoesNotFit, EngineConfig, compile, isa
from qatlib.engine.memory import Allocator, Pool, Tables, Unsupported
from qatlib.engine.random_models import Shape, random_model
from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import Operation, Tensor
from tests.integer_model.by_hand import by_hand, with_identity

CONFIG = CONFIGS["xc7s15"]
ATTENTION = "encoder.0.attention."


@pytest.fixture(scope="module")
def model():
    return random_model(0, Shape("patch", tokens=6, patch=5, horizon=5, d_model=8, heads=2))


# -- What fits


@pytest.mark.parametrize(("memory", "unit", "change"), [
    ("weight memory", "words", {"weight_depth": 16}),
    ("code memory", "rows", {"code_depth": 16}),
    ("key/value memory", "words", {"kv_depth": 4}),
    ("residual memory", "words", {"residual_depth": 8}),
    ("parameter memory", "words", {"param_depth": 8}),
    ("add memory", "words", {"add_depth": 4}),
    ("table memory", "words", {"tables": 1}),
    ("softmax memory", "rows", {"softmax_rows": 1}),
    ("program memory", "words", {"program_words": 64}),
    ("input buffer", "counts", {"input_words": 4}),
    ("output buffer", "counts", {"output_words": 1}),
])  # fmt: skip
def test_the_memory_that_is_short_is_named(model, memory, unit, change):
    compile(model, CONFIG)
    with pytest.raises(DoesNotFit, match=rf"the {memory} is short by (\d+) {unit}: \d+ needed, \d+ there") as caught:
        compile(model, replace(CONFIG, **change))
    assert caught.value.short > 0


@pytest.mark.parametrize("name", shipped.names("etth1"))
def test_every_shipped_model_fits_every_configuration(name):
    for config in CONFIGS.values():
        program = compile(shipped.load("etth1", name), config)
        assert program.bound <= program.cycles and program.utilisation <= 1
        assert all(len(words) for _, words in program.writes)


def test_what_lies_between_two_products_is_made_in_parts_where_memory_is_short():
    """Fewer tokens at a time: more instructions, the same multiply-accumulates."""
    model = random_model(0, Shape("point", tokens=40, patch=1, horizon=4, d_model=8))
    roomy, tight = (compile(model, replace(CONFIG, code_depth=depth)) for depth in (512, 96))
    assert len(tight.instructions) > len(roomy.instructions) and tight.macs == roomy.macs
    assert roomy.cycles < tight.cycles < 1.1 * roomy.cycles
    with pytest.raises(DoesNotFit, match="code memory"):
        compile(model, replace(CONFIG, code_depth=64))


def test_room_is_given_back_and_taken_again():
    room = Allocator("code memory", 10, "rows")
    assert [room.take(name, 3) for name in "abc"] == [0, 3, 6]
    room.free("b")
    assert (room.take("d", 2), room.take("e", 1)) == (3, 5)
    with pytest.raises(DoesNotFit, match="the code memory is short by 1 rows: 11 needed, 10 there"):
        room.take("f", 2)
    room.rename("a", "g")
    room.free("g")
    assert room.take("f", 3) == 0


def test_equal_words_are_kept_once():
    pool = Pool("weight memory", 3, 2)
    one, two = np.array([[1, 2], [3, 4]]), np.array([[5, 6]])
    assert [pool.add(words) for words in (one, two, one)] == [0, 2, 0] and pool.array().tolist() == [
        [1, 2],
        [3, 4],
        [5, 6],
    ]
    with pytest.raises(DoesNotFit, match="short by 2 words"):
        pool.add(np.array([[7, 8], [9, 9]]))


def test_tables_of_nibbles_share_a_table():
    tables = Tables("table memory", 3)
    zeros, rising = np.zeros(256, np.int64), np.arange(256)
    assert tables.add(zeros.reshape(1, 256)) == 0
    assert [tables.add_nibbles(codes) for codes in (zeros, rising % 8, zeros, rising % 8 - 8)] == [
        (1, 0),
        (1, 1),
        (1, 0),
        (2, 0),
    ]
    assert tables.array()[1].tolist() == (rising % 8 << 4).tolist() and not tables.array()[0].any()
    assert tables.array()[2].tolist() == (rising % 8 + 8).tolist()


# -- What is refused by name


def changed(model, operations=None, **tensors):
    """The model with other operations by path (None: left out), and tensors of other ranges; unchecked, since nothing
    exports these."""
    new = object.__new__(IntegerModel)
    named = {name.replace("__", "."): value for name, value in tensors.items()}
    for name in ("name", "context", "horizon", "channels", "mode", "targets", "arrays"):
        object.__setattr__(new, name, getattr(model, name))
    object.__setattr__(new, "tensors", {name: replace(t, **named.get(name, {})) for name, t in model.tensors.items()})
    object.__setattr__(
        new, "operations", tuple(filter(None, ((operations or {}).get(o.path, o) for o in model.operations)))
    )
    return new


@pytest.mark.parametrize(("path", "inputs", "message"), [
    (ATTENTION + "scores", ("query", "query"), "linear .*query: the engine uses a query, key or value once"),
    (ATTENTION + "scores", ("query", "operand"), ("the engine makes .*operand by a linear layer, not by requantise")),
    (ATTENTION + "context", ("softmax", "key"), "linear .*key: the engine uses a query, key or value once"),
])  # fmt: skip
def test_attention_of_another_kind(model, path, inputs, message):
    operation = next(o for o in model.operations if o.path == path)
    other = replace(operation, inputs=tuple(ATTENTION + name for name in inputs))
    with pytest.raises(ValueError, match=message):
        compile(changed(model, {path: other, **left_out(other.inputs, "key", "value")}), CONFIG)


def left_out(used, *names):
    return {ATTENTION + name: None for name in names if ATTENTION + name not in used}


def test_rearrangements_of_another_kind():
    decoder = random_model(0, Shape("decoder", 4, 6, horizon=6, d_model=5, label=6))
    model = changed(decoder, decoder_tokens__patches={"shape": (6, 2)})
    with pytest.raises(
        ValueError,
        match=r"reshape decoder_tokens.patches: the engine takes placeholders one by one, not in patches of 2",
    ):
        compile(model, CONFIGS["pynq-z2"])
    pair = by_hand(np.eye(6, dtype=int), np.zeros(6))
    tail = Operation("reshape", "tail", ("head",), "tail"), Operation("output", "output", ("tail",), "output")
    model = replace(
        pair, operations=pair.operations[:-1] + tail, tensors=pair.tensors | {"tail": Tensor((2, 3), -128, 127, 0)}
    )
    with pytest.raises(
        ValueError, match=r"reshape tail: the engine flattens tokens or leaves them, it makes no \(2, 3\) of \(1, 6\)"
    ):
        compile(model, CONFIG)


def test_placeholders_that_no_add_follows():
    """Their tokens are not stored; before this was refused, an identity between layer and add lost them."""
    decoder = random_model(0, Shape("decoder", 4, 6, horizon=6, d_model=5, label=6))
    with pytest.raises(Unsupported, match="takes placeholders to a linear layer with an add alone"):
        compile(with_identity(decoder, "decoder_tokens.embed"), CONFIGS["pynq-z2"])


def test_operations_that_read_samples_as_they_are():
    model = by_hand(np.ones((6, 1), dtype=int), np.zeros(6))
    direct = replace(model.operations[2], inputs=("source",))
    model = replace(
        model,
        operations=(model.operations[0], direct, model.operations[3]),
        tensors={name: t for name, t in model.tensors.items() if name != "flat"},
    )
    with pytest.raises(Unsupported, match="tensor source: the engine does not hold it as codes"):
        compile(model, CONFIG)


# -- Instructions


def test_an_instruction_is_its_fields_lowest_bits_first():
    words = isa.encode(
        {name: i % 2 for i, (name, *_) in enumerate(isa.FIELDS)} | {"z1": -1, "low2": -256, "high2": 255}
    )
    bits = sum(word << 32 * i for i, word in enumerate(words[:-1]))
    for i, (name, width, *_) in enumerate(isa.FIELDS):
        wanted = {"z1": 511, "low2": 256, "high2": 255}.get(name, i % 2)
        assert bits & ((1 << width) - 1) == wanted, name
        bits >>= width
    assert bits == 0 and len(words) == isa.WORDS
    assert np.bitwise_xor.reduce(np.array(words, np.uint32)) == isa.CHECK


@pytest.mark.parametrize(("field", "width"), [(name, width) for name, width, *_ in isa.FIELDS])
def test_a_field_that_does_not_fit(field, width):
    signed = field in ("z1", "low1", "high1", "z2", "low2", "high2")
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    isa.encode({field: low}), isa.encode({field: high})
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=rf"^{field} is {value}; the field holds {low}\.\.{high}$"):
            isa.encode({field: value})


def test_a_field_that_is_none():
    with pytest.raises(ValueError, match="no instruction field colour, size"):
        isa.encode({"size": 1, "colour": 2})


@pytest.mark.parametrize("n", range(1, 41))
def test_multiplier_and_shift_of_the_hardware(n):
    m, half = isa.scaled(np.array([1 << 15, 65535]), n)
    assert (m < 1 << 17).all() and half < 32
    np.testing.assert_array_equal(m * 2.0 ** -(2 * half + 1), np.array([1 << 15, 65535]) * 2.0**-n)


def test_configurations_have_checksums_of_their_own():
    assert len({c.checksum for c in CONFIGS.values()}) == len(CONFIGS)
    assert EngineConfig("xc7s15").checksum == CONFIG.checksum != replace(CONFIG, tables=7).checksum


# -- What a program tells


@pytest.mark.parametrize(
    ("name", "macs"), [("point-w24-d16-h24-w8a8", 92_928 + 24 * 16), ("point-w96-d16-h24-w4a4", 591_744 + 96 * 16)]
)
def test_multiply_accumulates_are_those_of_the_published_shape(name, macs):
    """92,928 and 591,744 without the embedding of single samples."""
    assert compile(shipped.load("etth1", name), CONFIG).macs in (macs, macs - int(name.split("-")[1][1:]) * 16)


def test_multiply_accumulates_by_hand():
    model = random_model(
        0, Shape("decoder", tokens=4, patch=6, horizon=3, d_model=8, heads=2, layers=2, factor=2, label=5)
    )
    t, u, d, wide = 4, 8, 8, 16
    attention, feed_forward = lambda q, k: (2 * q + 2 * k) * d * d + 2 * q * k * d, lambda q: 2 * q * d * wide
    encoder = t * 6 * d + 2 * (attention(t, t) + feed_forward(t))
    decoder = 5 * d + 2 * (attention(u, u) + attention(u, t) + feed_forward(u)) + 3 * d  # placeholders are no work
    assert compile(model, CONFIGS["pynq-z2"]).macs == encoder + decoder


def test_a_program_tells_of_its_instructions(model):
    program = compile(model, CONFIG)
    operations = list(program.operations())
    assert len(operations) == len(program.instructions) == len(program.listing().splitlines()) - 1
    assert sum(cycles for _, _, _, cycles, _, _ in operations) == program.cycles
    assert all(0 < issues <= cycles and bound <= issues for _, _, issues, cycles, _, bound in operations)
    assert -(-sum(bound for *_, bound in operations) // 1) == program.bound
    assert f"{program.macs} multiply-accumulates, {program.cycles} cycles" in program.listing().splitlines()[0]
    assert {path for path, *_ in operations} <= {o.path for o in model.operations} | {"end"}
