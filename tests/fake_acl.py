"""A stand-in for pyACL, the module `acl` of an Ascend board: it refuses what a board would refuse, and counts handles.

A .om is here an ONNX file under another name; `execute` runs it with ONNX Runtime, so that the numbers are real. With
AIPP the constants come from the model.json beside it. Wrong use raises AssertionError at once; `unreleased` says what
was never given back.
"""

import ctypes
import json
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime

FLOAT, FLOAT16, UINT8 = 0, 1, 4
DEVICE, HOST = 0, 1
_NUMPY = {FLOAT: np.float32, FLOAT16: np.float16, UINT8: np.uint8}


class FakeAcl:
    """The functions that a program calls, as `acl.rt.malloc` and so on.

    Args:
        run_mode: 0: the program runs on the chip, 1: on a host.
        old: a CANN without bytes_to_ptr and ptr_to_bytes.
        half: outputs are float16.
        slack: bytes that an output buffer is larger than its content.
        short_names: output names without the graph's own.
        gears: the model has the second input of dynamic batches.
        reverse: the outputs come in the opposite order.
        fail: codes by function, e.g. {'mdl.execute': 507015}.
    """

    def __init__(
        self, run_mode=HOST, old=False, half=False, slack=0, short_names=False, gears=False, reverse=False, fail=None
    ):
        self.__spec__ = ModuleSpec('acl', None)
        self.run_mode, self.half, self.slack, self.fail = run_mode, half, slack, fail or {}
        self.short_names, self.gears, self.reverse = short_names, gears, reverse
        self.calls = []
        self.initialised = False
        self.devices, self.contexts, self.models, self.descs = set(), {}, {}, {}
        self.datasets, self.buffers, self.memory, self.host = {}, {}, {}, {}
        self._next = iter(range(1, 1 << 30))
        self._thread = threading.local()
        self.busy = threading.Lock()
        util = ['numpy_to_ptr', 'ptr_to_numpy'] + ([] if old else ['bytes_to_ptr', 'ptr_to_bytes'])
        self.rt = self._room('rt', [
            'set_device', 'reset_device', 'create_context', 'destroy_context', 'set_context', 'get_run_mode',
            'malloc', 'free', 'malloc_host', 'free_host', 'memcpy',
        ])  # fmt: skip
        self.mdl = self._room('mdl', [
            'load_from_file', 'unload', 'create_desc', 'get_desc', 'destroy_desc', 'get_num_inputs', 'get_num_outputs',
            'get_input_size_by_index', 'get_output_size_by_index', 'get_input_data_type', 'get_output_data_type',
            'get_output_dims', 'create_dataset', 'destroy_dataset', 'add_dataset_buffer', 'execute',
        ])  # fmt: skip
        self.util = self._room('util', util)
        for name in ('init', 'finalize', 'create_data_buffer', 'destroy_data_buffer'):
            setattr(self, name, self._logged(name, getattr(self, f'_{name}')))

    @property
    def unreleased(self):
        """Names of the kinds of handles that are still held."""
        held = vars(self)
        kinds = ('devices', 'contexts', 'models', 'descs', 'datasets', 'buffers', 'memory', 'host')
        return [kind for kind in kinds if held[kind]] + ['acl'] * self.initialised

    def _room(self, room, names):
        return SimpleNamespace(**{n: self._logged(f'{room}.{n}', getattr(self, f'_{room}_{n}')) for n in names})

    def _logged(self, name, function):
        def call(*arguments):
            self.calls.append(name)
            if name in self.fail:
                return self.fail[name] if name in _CODE_ALONE else (None, self.fail[name])
            return function(*arguments)

        call.__name__ = name
        return call

    def _new(self, kind, value):
        handle = next(self._next)
        kind[handle] = value
        return handle

    def _context(self):
        context = getattr(self._thread, 'context', None)
        assert context in self.contexts, 'no context in this thread'
        return context

    def _init(self):
        if self.initialised:
            return 100002
        self.initialised = True
        return 0

    def _finalize(self):
        assert self.initialised and not self.devices, 'finalize before the devices were reset'
        self.initialised = False
        return 0

    def _rt_set_device(self, device):
        assert self.initialised, 'set_device before init'
        self.devices.add(device)
        return 0

    def _rt_reset_device(self, device):
        assert device in self.devices and not self.memory, 'reset_device with memory in use'
        self.devices.remove(device)
        return 0

    def _rt_create_context(self, device):
        assert device in self.devices, 'create_context before set_device'
        self._thread.context = self._new(self.contexts, device)
        return self._thread.context, 0

    def _rt_destroy_context(self, context):
        assert all(m.context != context for m in self.models.values()), 'destroyed before its models are unloaded'
        del self.contexts[context]
        return 0

    def _rt_set_context(self, context):
        assert context in self.contexts, 'an unknown context'
        self._thread.context = context
        return 0

    def _rt_get_run_mode(self):
        return self.run_mode, 0

    def _rt_malloc(self, size, policy):
        self._context()
        assert size > 0 and policy in (0, 1, 2)
        return self._allocate(self.memory, size)

    def _rt_malloc_host(self, size):
        return self._allocate(self.host, size)

    def _allocate(self, kind, size):
        block = ctypes.create_string_buffer(size)
        kind[ctypes.addressof(block)] = block
        return ctypes.addressof(block), 0

    def _rt_free(self, pointer):
        assert pointer in self.memory, 'freed twice, or never allocated'
        assert all(pointer != p for p, _ in self.buffers.values()), 'a data buffer still points to it'
        del self.memory[pointer]
        return 0

    def _rt_free_host(self, pointer):
        del self.host[pointer]
        return 0

    def _rt_memcpy(self, to, to_size, source, size, kind):
        self._context()
        into = to in self.memory
        allowed = {HOST: 1 if into else 2, DEVICE: 3}[self.run_mode]
        assert kind == allowed, f'memcpy of kind {kind} instead of {allowed}'
        assert into != (source in self.memory), 'one of the two is on the device'
        block = self.memory[to] if into else self.memory[source]
        assert size <= to_size and size <= len(block) and (not into or to_size <= len(block)), 'too many bytes'
        ctypes.memmove(to, source, size)
        return 0

    def _mdl_load_from_file(self, path):
        session = onnxruntime.InferenceSession(Path(path).read_bytes(), providers=['CPUExecutionProvider'])
        content = json.loads((Path(path).parent / 'model.json').read_text(encoding='utf-8'))
        aipp = content['input'] if content['files']['model.om']['input_dtype'] == 'uint8' else None
        model = SimpleNamespace(session=session, aipp=aipp, context=self._context())
        return self._new(self.models, model), 0

    def _mdl_unload(self, model):
        assert self.models[model].context == self._context(), 'unloaded in another context'
        del self.models[model]
        return 0

    def _mdl_create_desc(self):
        return self._new(self.descs, None)

    def _mdl_get_desc(self, desc, model):
        assert desc in self.descs
        self.descs[desc] = self.models[model]
        return 0

    def _mdl_destroy_desc(self, desc):
        del self.descs[desc]
        return 0

    def _mdl_get_num_inputs(self, desc):
        return len(self.descs[desc].session.get_inputs()) + self.gears

    def _mdl_get_num_outputs(self, desc):
        return len(self.descs[desc].session.get_outputs())

    def _mdl_get_input_data_type(self, desc, index):
        return UINT8 if self.descs[desc].aipp else FLOAT

    def _mdl_get_output_data_type(self, desc, index):
        return FLOAT16 if self.half else FLOAT

    def _mdl_get_input_size_by_index(self, desc, index):
        shape = self.descs[desc].session.get_inputs()[index].shape
        return int(np.prod(shape)) * (1 if self.descs[desc].aipp else 4)

    def _mdl_get_output_size_by_index(self, desc, index):
        shape = self._outputs(self.descs[desc])[index].shape
        return int(np.prod(shape)) * (2 if self.half else 4) + self.slack

    def _outputs(self, model):
        outputs = model.session.get_outputs()
        return outputs[::-1] if self.reverse else outputs

    def _mdl_get_output_dims(self, desc, index):
        output = self._outputs(self.descs[desc])[index]
        name = f'Conv_{index}:0' if self.short_names else f'Conv_{index}:0:{output.name}'
        return {'name': name, 'dimCount': len(output.shape), 'dims': list(output.shape)}, 0

    def _mdl_create_dataset(self):
        return self._new(self.datasets, [])

    def _mdl_destroy_dataset(self, dataset):
        del self.datasets[dataset]
        return 0

    def _mdl_add_dataset_buffer(self, dataset, buffer):
        self.datasets[dataset].append(self.buffers[buffer])
        return dataset, 0

    def _create_data_buffer(self, pointer, size):
        assert size <= len(self.memory[pointer])
        return self._new(self.buffers, (pointer, size))

    def _destroy_data_buffer(self, buffer):
        del self.buffers[buffer]
        return 0

    def _mdl_execute(self, model, in_set, out_set):
        model = self.models[model]
        assert model.context == self._context(), 'executed in another context'
        assert self.busy.acquire(blocking=False), 'two threads execute one model at once'
        try:
            ((pointer, size),) = self.datasets[in_set]
            (node,) = model.session.get_inputs()
            data = ctypes.string_at(pointer, size)
            if model.aipp:
                n, c, h, w = node.shape
                pixels = np.frombuffer(data, np.uint8).reshape(n, h, w, c)
                values = (pixels / 255 - model.aipp['mean']) / model.aipp['std']
                values = values.transpose(0, 3, 1, 2).astype(np.float32)
            else:
                values = np.frombuffer(data, np.float32).reshape(node.shape)
            outputs = model.session.run([o.name for o in self._outputs(model)], {node.name: values})
            for output, (pointer, size) in zip(outputs, self.datasets[out_set], strict=True):
                data = output.astype(np.float16 if self.half else np.float32).tobytes()
                assert len(data) <= size
                ctypes.memmove(pointer, data, len(data))
        finally:
            self.busy.release()
        return 0

    def _util_bytes_to_ptr(self, data):
        assert isinstance(data, bytes)
        return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value

    def _util_numpy_to_ptr(self, array):
        assert array.flags.c_contiguous
        return array.ctypes.data

    def _util_ptr_to_bytes(self, pointer, size):
        assert size <= len(self.host[pointer])
        return ctypes.string_at(pointer, size)

    def _util_ptr_to_numpy(self, pointer, shape, kind):
        assert kind == 1, 'numpy calls int8 1'
        return np.frombuffer(ctypes.string_at(pointer, int(np.prod(shape))), np.int8)


# Functions that return a code and no value.
_CODE_ALONE = {
    'init', 'finalize', 'destroy_data_buffer', 'rt.set_device', 'rt.reset_device', 'rt.destroy_context',
    'rt.set_context', 'rt.free', 'rt.free_host', 'rt.memcpy', 'mdl.unload', 'mdl.get_desc', 'mdl.destroy_desc',
    'mdl.destroy_dataset', 'mdl.execute',
}  # fmt: skip
