"""Cleaning up an exported graph: constants and batch norms folded, every node named by its layer."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from evg.deploy.dcn import ASCEND_OP

_LARGEST_CONSTANT = 1 << 20  # elements; what is folded is stored in the file
# Their weights have the output channels first, or second where they are transposed; bias is the last input.
_FOLD_INTO = {'Conv': 2, 'ConvTranspose': 2, 'DeformConv': 3, ASCEND_OP: 3}  # which input is the bias


def tidy(model: ModelProto, modules: list[str], root: str = '') -> None:
    """Clean up a graph in place.

    Args:
        model: as torch's exporter wrote it.
        modules: dotted names of the exported module's modules.
        root: the one of them that holds the network; names of nodes begin below it.
    """
    _name_nodes(model, modules, root)
    _constants_to_initializers(model)
    _drop_identities(model)
    _fold_constants(model)
    _fold_batch_norms(model)
    _drop_unused(model)
    for node in model.graph.node:
        node.doc_string = ''
    del model.graph.value_info[:]


def layer_of(node: NodeProto) -> str:
    """The module that a node comes from, by its dotted name: 'neck.steps.0' of 'neck.steps.0/ConvTranspose'."""
    return node.name.rpartition('/')[0]


def attributes_of(node: NodeProto) -> dict:
    """Attributes by name, text as str."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def constants_of(model: ModelProto) -> dict[str, np.ndarray]:
    """Initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def shapes_of(model: ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes of all tensors that ONNX can infer, weights included; None is a dimension that is not fixed."""
    inferred = onnx.shape_inference.infer_shapes(without_ascend_op(model), data_prop=True)
    shapes: dict[str, tuple[int | None, ...]] = {t.name: tuple(t.dims) for t in inferred.graph.initializer}
    for info in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        if info.type.tensor_type.HasField('shape'):
            dims = info.type.tensor_type.shape.dim
            shapes[info.name] = tuple(dim.dim_value if dim.HasField('dim_value') else None for dim in dims)
    return shapes


def without_ascend_op(model: ModelProto) -> ModelProto:
    """The model itself, or a copy with a Conv in place of each DeformableConv2D, which has the same output shape."""
    if not any(node.op_type == ASCEND_OP for node in model.graph.node):
        return model
    twin = ModelProto()
    twin.CopyFrom(model)
    for node in twin.graph.node:
        if node.op_type == ASCEND_OP:
            given = attributes_of(node)
            features, weight, _, *bias = node.input
            pads = [*given['pads'], *given['pads']]
            conv = helper.make_node(
                'Conv', [features, weight, *bias], node.output, node.name,
                strides=given['strides'], pads=pads, dilations=given['dilations'],
            )  # fmt: skip
            node.CopyFrom(conv)
    return twin


def sort_nodes(model: ModelProto) -> None:
    """Put every node behind those that it reads from."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input} | {''}
    left, ordered = list(graph.node), []
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        if not ready:
            raise ValueError(f'the graph has a cycle, or an input that nothing makes, at {left[0].name}')
        ordered += ready
        known.update(name for node in ready for name in node.output)
        left = [node for node in left if not known.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)


def _name_nodes(model: ModelProto, modules: list[str], root: str) -> None:
    """'/root/neck/steps/steps.0/Conv' becomes 'neck.steps.0/Conv'; a second one of a layer 'neck.steps.0/Conv_1'."""
    taken: Counter[str] = Counter()
    for node in model.graph.node:
        layer = ''
        for part in node.name.split('/')[1:-1]:
            layer = _called(part, layer, modules)
        layer = layer.removeprefix(root).removeprefix('.')
        name = f'{layer}/{node.op_type}'.removeprefix('/')
        taken[name] += 1
        node.name = name if taken[name] == 1 else f'{name}_{taken[name] - 1}'


def _called(part: str, caller: str, modules: list[str]) -> str:
    """The module inside of `caller` that the exporter calls `part`: the end of its name, from the last word on.

    'heads.heatmap' is called heatmap, 'neck.steps.0' steps.0; relu_1 is a second call of relu.
    """
    inside = [name for name in modules if name.startswith(f'{caller}.' if caller else '')]
    for wanted in (part, re.sub(r'_\d+$', '', part)):
        found = [name for name in inside if re.fullmatch(rf'(.*\.)?{re.escape(wanted)}', name)]
        if found:
            return min(found, key=len)
    return caller


def _constants_to_initializers(model: ModelProto) -> None:
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == 'Constant']:
        graph.initializer.append(numpy_helper.from_array(_evaluate(model, node, {}), node.output[0]))
        graph.node.remove(node)


def _drop_identities(model: ModelProto) -> None:
    graph, outputs = model.graph, {info.name for info in model.graph.output}
    for node in [node for node in graph.node if node.op_type == 'Identity' and node.output[0] not in outputs]:
        _redirect(model, node.output[0], node.input[0])
        graph.node.remove(node)


def _redirect(model: ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def _fold_constants(model: ModelProto) -> None:
    """Nodes of constants, and Shape of tensors of fixed shape."""
    graph, shapes, constants = model.graph, shapes_of(model), constants_of(model)
    outputs = {info.name for info in graph.output}
    # Shapes that follow from what was just folded are known in the next round.
    while True:
        folded = []
        for node in graph.node:
            value = None
            if node.op_type == 'Shape' and not node.attribute and None not in shapes.get(node.input[0], (None,)):
                value = np.array(shapes[node.input[0]], np.int64)
            elif len(node.output) == 1 and node.input and constants.keys() | {''} >= set(node.input):
                value = _evaluate(model, node, constants)
            if value is None or value.size > _LARGEST_CONSTANT or outputs & set(node.output):
                continue
            constants[node.output[0]] = value
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            folded.append(node)
        if not folded:
            return
        for node in folded:
            graph.node.remove(node)
        _drop_unused(model)
        shapes = shapes_of(model)


def _evaluate(model: ModelProto, node: NodeProto, constants: dict[str, np.ndarray]) -> np.ndarray:
    """The output of a node, the first one if there are several."""
    known = {name: constants[name] for name in node.input if name}
    inputs = [onnx.ValueInfoProto(name=name) for name in known]
    graph = helper.make_graph([node], 'constant', inputs, [onnx.ValueInfoProto(name=node.output[0])])
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import)))
    made: Any = evaluator.run(None, known)
    return np.asarray(made[0])


def _fold_batch_norms(model: ModelProto) -> None:
    """A batch norm right after a convolution becomes part of its weights."""
    graph, constants = model.graph, constants_of(model)
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(info.name for info in graph.output)
    for norm in [node for node in graph.node if node.op_type == 'BatchNormalization']:
        conv = producers.get(norm.input[0])
        at = _FOLD_INTO.get(conv.op_type) if conv is not None else None
        if conv is None or at is None or uses[norm.input[0]] > 1 or conv.input[1] not in constants:
            continue
        gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:])
        factor = gamma / np.sqrt(variance + attributes_of(norm).get('epsilon', 1e-5))
        weight = constants[conv.input[1]].astype(np.float64)
        bias = constants[conv.input[at]] if len(conv.input) > at and conv.input[at] else np.zeros(len(factor))
        if conv.op_type == 'ConvTranspose':
            # (in channels, out channels / groups, ...): the groups' outputs follow each other.
            per_group = factor.reshape(-1, 1, weight.shape[1])
            scaled = weight.reshape(len(per_group), -1, *weight.shape[1:])
            weight = (scaled * per_group[..., None, None]).reshape(weight.shape)
        else:
            weight = weight * factor.reshape(-1, 1, 1, 1)
        folded = {'weight': weight, 'bias': (bias - mean) * factor + beta}
        names = {kind: f'{norm.name}.{kind}' for kind in folded}
        for kind, array in folded.items():
            graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), names[kind]))
        inputs = [*conv.input, *[''] * (at + 1 - len(conv.input))]
        inputs[1], inputs[at] = names['weight'], names['bias']
        del conv.input[:]
        conv.input.extend(inputs)
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)


def _drop_unused(model: ModelProto) -> None:
    """Nodes whose outputs nobody reads, and constants that no node reads."""
    graph = model.graph
    while True:
        read = {name for node in graph.node for name in node.input} | {info.name for info in graph.output}
        dead = [node for node in graph.node if not read & set(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    kept = [tensor for tensor in _unique(graph.initializer) if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _unique(tensors) -> Iterator:
    seen = set()
    for tensor in tensors:
        if tensor.name not in seen:
            seen.add(tensor.name)
            yield tensor
