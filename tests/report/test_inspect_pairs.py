"""Which ops count as integer where pairs of quantize and dequantize say so."""

import pytest

from exporter.report.inspect.found import Step, outside_pairs, tail_behind_pairs


def steps(*rows):
    """`kind inputs -> outputs`; names that begin with q hold codes, all others floats."""
    found = []
    for row in rows:
        kind, given, made = (part.split() for part in row.replace("->", ":").split(":"))
        names = [*given, *made]
        found.append(Step(*kind, tuple(given), tuple(made), frozenset(n for n in names if not n.startswith("q"))))
    return found


CASES = {
    "between_pairs": (["dq: q1 -> a", "conv: a -> b", "q: b -> q2"], ""),
    "float_model": (["conv: x -> a", "relu: a -> y"], "conv relu"),
    "reads_the_input": (["conv: x -> b", "q: b -> q2"], "conv"),
    "gives_the_output": (["dq: q1 -> a", "conv: a -> y"], "conv"),
    "output_and_codes": (["dq: q1 -> a", "conv: a -> y", "q: y -> q2"], "conv"),
    "with_activation": (["dq: q1 -> a", "conv: a -> b", "relu: b -> c", "q: c -> q2"], ""),
    "moves_on_both_sides": (["dq: q1 -> a", "pad: a -> b", "conv: b -> c", "pad: c -> d", "q: d -> q2"], ""),
    "activation_is_no_pair": (
        ["dq: q1 -> a", "conv: a -> b", "relu: b -> c", "mul: c -> d", "q: d -> q2"],
        "conv relu mul",
    ),
    "pair_read_twice": (
        ["dq: q1 -> a", "conv: a -> b", "q: b -> q2", "mul: a -> c", "q: c -> q3"],
        "",
    ),
    "meeting_behind": (["dq: q1 -> a", "conv: a -> b", "mul: a -> c", "add: b c -> d", "q: d -> q2"], "conv mul add"),
    "one_way_out_in_float": (["dq: q1 -> a", "conv: a -> b", "q: b -> q2", "mul: b -> y"], "conv mul"),
    "on_codes": (["conv: q1 -> q2", "shape: q1 -> q3"], ""),
}


@pytest.mark.parametrize(("rows", "on_floats"), CASES.values(), ids=CASES)
def test_islands(rows, on_floats):
    made = steps(*rows)
    found = outside_pairs(made, {"y"}, {"q"}, {"dq"}, {"relu", "pad"})
    assert sorted(made[index].kind for index in found) == sorted(on_floats.split())


def test_long_float_models_take_no_time():
    """Islands grow by the smaller one: as many steps as a large transformer has."""
    rows = [f"conv: x{i} -> x{i + 1}" for i in range(20_000)]
    assert len(outside_pairs(steps(*rows), {"x20000"}, {"q"}, {"dq"}, set())) == 20_000


def test_tail_is_what_leads_to_no_codes():
    """Integers that are no codes, such as the index of the best, do not end it."""
    made = steps(
        "dq: q1 -> a",
        "conv: a -> b",
        "q: b -> q2",
        "dq: q2 -> c",
        "argmax: c -> q_index",
        "equal: q_index -> q_best",
        "exp: c -> d",
        "mul: d q_best -> y",
    )
    floats = outside_pairs(made, {"y"}, {"q"}, {"dq"}, set())
    assert sorted(made[index].kind for index in floats) == ["exp", "mul"]
    assert tail_behind_pairs(made, floats, {"q"}) == 2
    assert tail_behind_pairs(made[3:], floats, {"q"}) == 0
