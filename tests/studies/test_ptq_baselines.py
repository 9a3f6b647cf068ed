"""Which tensors have a width of their own."""

from qatlib.runs import cached
from qatlib.studies import ptq_baselines


def test_tensors_with_a_width_are_each_named_once(small):
    pairs = list(ptq_baselines.tensors(small.default_model))
    assert len(set(pairs)) == len(pairs)
    assert {("source", "activations"), ("head", "weights"), ("encoder.0.attention.softmax", "activations")} <= set(
        pairs
    )
    exported = cached.integer_model(small.one_tensor_low("head", "weights")[0], small.dataset)
    bits = {o.path: o.attributes["weight_bits"] for o in exported.operations if o.kind == "linear"}
    assert bits.pop("head") == 4 and set(bits.values()) == {8}
