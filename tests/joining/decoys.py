"""Pairs of files in which a value is easily taken for another, and what each value really is.

Twin branches with nearly equal weights, branches in another order, names that have moved, a wrong
weight in one twin or in both, an activation that is gone: drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.index import GraphIndex, index_graph
from exporter.joining.digests import Digests
from exporter.joining.joined import Joined

WIDTH = 6
CLOSE = (0.3, 1e-2, 1e-4, 1e-6, 1.2e-7, 0.0)
FAULTS = ("none", "none", "one weight", "both weights", "swapped operands", "no activation")
NAMES = ("kept", "fresh", "swapped")


@dataclass
class Net:
    """Nodes and weights by the names of the expected file."""

    nodes: list[tuple[str, list[str], str, dict]] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    twins: list[tuple[str, str]] = field(default_factory=list)

    def add(self, op: str, reads: list[str], name: str, **attributes) -> str:
        self.nodes.append((op, reads, name, attributes))
        return name


@dataclass(frozen=True)
class Pair:
    """Two files, and of each value of the second which value of the first it is."""

    expected: GraphIndex
    actual: GraphIndex
    truth: dict[str, str]
    story: str


def drawn(seed: int, *, cut: bool = False) -> Pair:
    """A pair from a seed.

    Args:
        cut: twins are the halves of one product, as queries, keys and values are.
    """
    random = np.random.default_rng(seed)
    close, fault = random.choice(CLOSE), str(random.choice(FAULTS))
    names = str(random.choice(NAMES))
    net = _net(random, float(close), cut=cut)
    wrong = _with_fault(random, net, fault)
    folded = not random.integers(3)
    if folded:
        _round_anew(random, wrong)
    # Halves that can hardly be told apart are the same the other way round; and where both are
    # wrong and their product is taken, nothing says which is which.
    may = cut and close >= 1e-4 and fault != "both weights" and not random.integers(3)
    turned = _with_halves_turned(wrong) if may else []
    called = _names(random, net, names)
    expected = _index(net, {name: name for _, _, name, _ in net.nodes}, random, shuffle=False)
    actual = _index(wrong, called, random, shuffle=True)
    truth = {called[name]: "y" if name in turned else name for _, _, name, _ in wrong.nodes}
    return Pair(
        expected,
        actual,
        truth,
        f"seed {seed}: twins {close:g}, {fault}, names {names}, {folded=}, {cut=}"
        + (", turned" if turned else ""),
    )


def inputs(seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((2, size, WIDTH)).astype(np.float32)} for size in (5, 7)]


def wrong_joins(pair: Pair, joined: Joined) -> Iterator[str]:
    """Joins of values that are neither one function nor in one place."""
    ours, theirs = Digests(pair.expected), Digests(pair.actual)
    known = {ours.of(ours.root(name)) for name in pair.truth.values()}
    for join in joined.joins:
        left = ours.of(ours.root(join.expected))
        right = theirs.of(theirs.root(join.actual))
        meant = ours.of(ours.root(pair.truth[join.actual]))
        if left == right or (right not in known and left == meant):
            continue
        yield f"{join.actual} (really {pair.truth[join.actual]}) with {join.expected}: {join}"


def _net(random: np.random.Generator, close: float, *, cut: bool) -> Net:
    net, x = Net(), "x"
    if cut:
        ends = {"left": 0, "middle": WIDTH, "right": 2 * WIDTH, "last": -1}
        net.weights |= {name: np.array([end]) for name, end in ends.items()}
    for block in range(int(random.integers(2, 4))):
        shared = bool(random.integers(2))
        twins = []
        weight = _weight(random)
        if cut:
            halves = [weight, _near(random, weight, close)]
            net.weights[f"b{block}_w"] = np.concatenate(halves, axis=1)
            product = net.add("MatMul", [x, f"b{block}_w"], f"b{block}_product")
        for twin in range(2):
            tag = f"b{block}t{twin}"
            if cut:
                ends = ["middle", "right"] if twin else ["left", "middle"]
                made = net.add("Slice", [product, *ends, "last"], f"{tag}_part")
            else:
                near = weight if twin == 0 else _near(random, weight, close)
                net.weights[f"{tag}_w"] = near
                made = net.add("MatMul", [x, f"{tag}_w"], f"{tag}_product")
            kind = ("Tanh", "Sigmoid", "Relu")[int(random.integers(3)) if not shared else 0]
            made = net.add(kind, [made], f"{tag}_active")
            if shared:
                net.weights.setdefault(f"b{block}_shared", _weight(random))
                made = net.add("MatMul", [made, f"b{block}_shared"], f"{tag}_second")
            twins.append(made)
        net.twins.append((f"b{block}_w",) * 2 if cut else (f"b{block}t0_w", f"b{block}t1_w"))
        joint = str(random.choice(["Sub", "Concat", "Mul"]))
        if joint == "Concat":
            net.weights[f"b{block}_joint_w"] = _weight(random, 2 * WIDTH)
            made = net.add("Concat", twins, f"b{block}_both", axis=-1)
            made = net.add("MatMul", [made, f"b{block}_joint_w"], f"b{block}_joint")
        else:
            made = net.add(joint, twins, f"b{block}_joint")
        x = net.add("Add", [x, made], f"b{block}_out")
    net.weights["head_w"] = _weight(random)
    net.add("MatMul", [x, "head_w"], "y")
    return net


def _with_fault(random: np.random.Generator, net: Net, fault: str) -> Net:
    wrong = Net(list(net.nodes), dict(net.weights), list(net.twins))
    pair = net.twins[int(random.integers(len(net.twins)))]
    if fault in ("one weight", "both weights"):
        for name in pair if fault == "both weights" else pair[:1]:
            weight = wrong.weights[name].copy()
            column = 2 + WIDTH * int(weight.shape[1] > WIDTH and random.integers(2))
            weight[1, column] += np.float32(10.0 ** float(random.uniform(-6, 0)))
            wrong.weights[name] = weight
    elif fault == "swapped operands":
        places = [i for i, node in enumerate(net.nodes) if node[0] in ("Sub", "Concat")]
        for at in places[:1]:
            op, reads, name, attributes = net.nodes[at]
            wrong.nodes[at] = (op, reads[::-1], name, attributes)
    elif fault == "no activation":
        places = [i for i, node in enumerate(net.nodes) if node[0] in ("Tanh", "Sigmoid", "Relu")]
        at = places[int(random.integers(len(places)))]
        _, reads, gone, _ = net.nodes[at]
        wrong.nodes = [
            (op, [reads[0] if read == gone else read for read in inside], name, attributes)
            for op, inside, name, attributes in net.nodes
            if name != gone
        ]
    return wrong


def _with_halves_turned(net: Net) -> list[str]:
    """Each product holds its halves the other way round, and parts are taken so: a fresh value."""
    other = {"left": "middle", "middle": "right"}, {"middle": "left", "right": "middle"}
    products = []
    for at, (op, reads, name, attributes) in enumerate(net.nodes):
        if name.endswith("_product"):
            weight = net.weights[reads[1]]
            net.weights[reads[1]] = np.roll(weight, WIDTH, axis=1)
            products.append(name)
        elif op == "Slice":
            ends = [other["right" in reads].get(read, read) for read in reads]
            net.nodes[at] = (op, ends, name, attributes)
    return products


def _round_anew(random: np.random.Generator, net: Net) -> None:
    """Every weight moves by a rounding, as where a tool has multiplied another one into it."""
    for name, weight in net.weights.items():
        if weight.dtype.kind != "f":
            continue
        steps = random.integers(-1, 2, weight.shape)
        moved = weight * (1 + steps * np.float64(2.0**-23))
        net.weights[name] = moved.astype(np.float32)


def _names(random: np.random.Generator, net: Net, how: str) -> dict[str, str]:
    inner = [name for _, _, name, _ in net.nodes if name != "y"]
    if how == "kept":
        return {name: name for name in [*inner, "y"]}
    if how == "fresh":
        return {name: f"v{at}" for at, name in enumerate(random.permutation(inner))} | {"y": "y"}
    # Twins, and some others, have changed names with one another.
    called = {name: name for name in [*inner, "y"]}
    for name in inner:
        if "t0_" in name and random.integers(2):
            other = name.replace("t0_", "t1_")
            called[name], called[other] = other, name
    return called


def _index(
    net: Net, called: dict[str, str], random: np.random.Generator, *, shuffle: bool
) -> GraphIndex:
    nodes = []
    for op, reads, name, attributes in net.nodes:
        inside = [called.get(read, read) for read in reads]
        nodes.append(helper.make_node(op, inside, [called[name]], **attributes))
    if shuffle:
        nodes = _shuffled(random, nodes, {"x", *net.weights})
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "decoy",
        [helper.make_tensor_value_info("x", kind, ["batch", "frames", WIDTH])],
        [helper.make_tensor_value_info("y", kind, ["batch", "frames", WIDTH])],
        [numpy_helper.from_array(weight, name) for name, weight in net.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return index_graph(model, Path())


def _shuffled(random: np.random.Generator, nodes: list, known: set[str]) -> list:
    left, ordered, known = list(nodes), [], set(known)
    while left:
        ready = [node for node in left if set(node.input) <= known]
        node = ready[int(random.integers(len(ready)))]
        ordered.append(node)
        left.remove(node)
        known.update(node.output)
    return ordered


def _weight(random: np.random.Generator, rows: int = WIDTH) -> np.ndarray:
    return (random.standard_normal((rows, WIDTH)) / np.sqrt(rows)).astype(np.float32)


def _near(random: np.random.Generator, weight: np.ndarray, close: float) -> np.ndarray:
    return (weight * (1 + close * random.standard_normal(weight.shape))).astype(np.float32)
