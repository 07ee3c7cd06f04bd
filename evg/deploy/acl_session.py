"""model.om on an Ascend device, by pyACL (the module `acl` of CANN).

The order of calls and the return conventions are those of Huawei's samples; pyACL functions return a code, or a value
and a code. Every handle is released in the reverse of the order in which it was got, also where loading fails half-way.
"""

import importlib
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evg.deploy.model_file import ModelFile
from evg.errors import UserError

_ALREADY_DONE = (100002, 100037)  # init, finalize: somebody else in this process did it
_HUGE_FIRST = 0
_ON_DEVICE = 0  # run mode: this process runs on the chip's own CPU
_HOST_TO_DEVICE, _DEVICE_TO_HOST, _DEVICE_TO_DEVICE = 1, 2, 3
_DTYPES: dict[int, type] = {0: np.float32, 1: np.float16, 4: np.uint8}
_NPY_BYTE = 1  # numpy's number of int8
_ADVICE = {
    100000: 'a bad parameter',
    100011: 'a bad model id',
    100012: 'the .om was made by a newer CANN, or is damaged; convert it again with the CANN of this board',
    100013: 'the .om was made by a newer CANN, or is damaged; convert it again with the CANN of this board',
    100017: "the input does not fit the .om's",
    100018: "the output does not fit the .om's",
    500002: "the graph engine failed, see $HOME/ascend/log; check that soc_version is this board's (npu-smi info)",
    507011: 'the execution failed, see $HOME/ascend/log',
    507015: 'an AI Core failed, see $HOME/ascend/log',
    507018: 'an operator on the AI CPU failed, see $HOME/ascend/log',
}

# One process initialises acl and each device once, however many sessions it has.
_GUARD = threading.Lock()
_SESSIONS: Counter[int] = Counter()
_STARTED: set[str] = set()


class AclSession:
    """A loaded .om; `run` may be called from several threads, one runs at a time.

    Args:
        file: the loaded model.json; the network is `model.om` beside it.
        device_id: number of the chip.

    Attributes:
        batch: pictures a run, as the .om was converted.
        takes_pixels: whether AIPP normalises on the chip: `run` then takes uint8 (B, H, W, 3) in the model's channel
            order, else normalised float32 (B, 3, H, W).
        providers: what it runs on, for people to read.
    """

    def __init__(self, file: ModelFile, device_id: int = 0):
        self._acl = import_acl()
        self._lock = threading.Lock()
        self._undo = ExitStack()
        self._closed = False
        path = file.path('model.om')
        facts = file.files['model.om']
        self.takes_pixels = facts['input_dtype'] == 'uint8'
        if self.takes_pixels != (facts['input_layout'] == 'NHWC'):
            raise UserError(
                f'{path}: an input of {facts["input_dtype"]} {facts["input_layout"]} is not supported; convert it with '
                'AIPP (uint8 NHWC) or without (float32 NCHW)'
            )
        self.providers = [f'Ascend device {device_id} ({facts["soc_version"]})']
        try:
            self._start(device_id)
            self._load(str(path))
            self._make_buffers(file, str(path))
        except BaseException:
            self._undo.close()
            raise

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Raw outputs by name of exactly `batch` pictures, see `takes_pixels`."""
        acl = self._acl
        data = np.ascontiguousarray(inputs, self._dtype)
        if data.nbytes != self._in_bytes:
            raise ValueError(f'{self._in_bytes} bytes are expected, not {data.shape} {data.dtype}')
        with self._lock:
            if self._closed:
                raise RuntimeError('the session was closed')
            # The context belongs to the thread that made it, and this may be another.
            _check(acl.rt.set_context(self._context), 'acl.rt.set_context')
            if hasattr(acl.util, 'bytes_to_ptr'):
                held: Any = data.tobytes()  # lives until the copy has ended
                pointer = acl.util.bytes_to_ptr(held)
            else:
                pointer = acl.util.numpy_to_ptr(data)
            _check(acl.rt.memcpy(self._in_ptr, data.nbytes, pointer, data.nbytes, self._copy_in), 'acl.rt.memcpy')
            _check(acl.mdl.execute(self._model, self._in_set, self._out_set), 'acl.mdl.execute')
            return {name: self._fetch(*buffers) for name, buffers in self._out.items()}

    def close(self) -> None:
        """Release everything on the device; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._acl.rt.set_context(self._context)
                self._undo.close()

    def _start(self, device_id: int) -> None:
        acl = self._acl
        _open_device(acl, device_id)
        self._undo.callback(_close_device, acl, device_id)
        self._context = _check(acl.rt.create_context(device_id), 'acl.rt.create_context')
        self._later(acl.rt.destroy_context, self._context)
        on_device = _check(acl.rt.get_run_mode(), 'acl.rt.get_run_mode') == _ON_DEVICE
        self._copy_in = _DEVICE_TO_DEVICE if on_device else _HOST_TO_DEVICE
        self._copy_out = _DEVICE_TO_DEVICE if on_device else _DEVICE_TO_HOST

    def _load(self, path: str) -> None:
        mdl = self._acl.mdl
        self._model = _check(mdl.load_from_file(path), f'acl.mdl.load_from_file({path!r})')
        self._later(mdl.unload, self._model)
        self._desc = mdl.create_desc()
        self._later(mdl.destroy_desc, self._desc)
        _check(mdl.get_desc(self._desc, self._model), 'acl.mdl.get_desc')

    def _make_buffers(self, file: ModelFile, path: str) -> None:
        mdl, desc = self._acl.mdl, self._desc
        if (count := mdl.get_num_inputs(desc)) != 1:
            raise UserError(f'{path} has {count} inputs, not one: convert it with a fixed batch, without gears')
        self._dtype = np.dtype(np.uint8 if self.takes_pixels else np.float32)
        found = _dtype(mdl.get_input_data_type(desc, 0), path)
        if found != self._dtype:
            raise UserError(f'{path} takes {found}, model.json says {self._dtype}; convert it again')
        self._in_bytes = mdl.get_input_size_by_index(desc, 0)
        width, height = file.input.size
        self.batch, rest = divmod(self._in_bytes, 3 * width * height * self._dtype.itemsize)
        if rest or not self.batch:
            raise UserError(
                f'{path} takes {self._in_bytes} bytes, which are no {self._dtype} pictures of {width} x {height} px; '
                'convert it again'
            )
        self._in_set, (self._in_ptr,) = self._dataset([self._in_bytes])
        count = mdl.get_num_outputs(desc)
        sizes = [mdl.get_output_size_by_index(desc, i) for i in range(count)]
        self._out_set, pointers = self._dataset(sizes)
        expected = {output.name: output.shape[1:] for output in file.outputs}
        dims = [_check(mdl.get_output_dims(desc, i), 'acl.mdl.get_output_dims') for i in range(count)]
        # 'node:0:heatmap'; older CANN leaves the last part out, and the outputs are in the graph's order.
        names = [d['name'].rpartition(':')[2] for d in dims]
        if set(names) != set(expected):
            names = list(expected)
        shapes = [tuple(d['dims']) for d in dims]
        if len(names) != count or any(s != (self.batch, *expected[n]) for n, s in zip(names, shapes, strict=True)):
            raise UserError(f'{path} has outputs {shapes}, model.json says {expected}; convert it again')
        self._out = {}
        for i, name in enumerate(names):
            host = _check(self._acl.rt.malloc_host(sizes[i]), 'acl.rt.malloc_host')
            self._later(self._acl.rt.free_host, host)
            dtype = _dtype(mdl.get_output_data_type(desc, i), path)
            self._out[name] = (pointers[i], host, sizes[i], shapes[i], dtype)

    def _dataset(self, sizes: list[int]) -> tuple[Any, list[int]]:
        """A dataset of new buffers on the device, and their addresses."""
        acl, pointers = self._acl, []
        for size in sizes:
            pointers.append(_check(acl.rt.malloc(size, _HUGE_FIRST), f'acl.rt.malloc of {size} bytes'))
            self._later(acl.rt.free, pointers[-1])
        dataset = acl.mdl.create_dataset()
        self._later(acl.mdl.destroy_dataset, dataset)
        for pointer, size in zip(pointers, sizes, strict=True):
            buffer = acl.create_data_buffer(pointer, size)
            self._later(acl.destroy_data_buffer, buffer)
            _check(acl.mdl.add_dataset_buffer(dataset, buffer), 'acl.mdl.add_dataset_buffer')
        return dataset, pointers

    def _fetch(self, pointer: int, host: int, size: int, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        """One output, copied from the device."""
        acl = self._acl
        _check(acl.rt.memcpy(host, size, pointer, size, self._copy_out), 'acl.rt.memcpy')
        if hasattr(acl.util, 'ptr_to_bytes'):
            data = acl.util.ptr_to_bytes(host, size)
        else:
            data = acl.util.ptr_to_numpy(host, (size,), _NPY_BYTE).tobytes()
        # A buffer may be larger than its content.
        return np.frombuffer(data, dtype, count=int(np.prod(shape))).reshape(shape).astype(np.float32)

    def _later(self, release: Callable[..., Any], *arguments: Any) -> None:
        """Release a handle when the session is closed."""
        self._undo.callback(lambda: _check(release(*arguments), f'acl {release.__name__}'))


def import_acl() -> Any:
    """The module `acl`.

    Raises:
        UserError: there is none.
    """
    try:
        acl = importlib.import_module('acl')
    except ImportError as error:
        raise UserError(
            f'pyACL cannot be imported ({error}): run on an Ascend board, after `source set_env.sh` of its CANN '
            "toolkit, or choose the backend 'onnxruntime'"
        ) from error
    if not hasattr(acl, 'mdl'):
        raise UserError("the module 'acl' found is not pyACL: it has no acl.mdl; check PYTHONPATH")
    return acl


def _dtype(code: int, path: str) -> np.dtype:
    if code not in _DTYPES:
        raise UserError(f'{path}: numbers of acl type {code} are not supported; convert it with float32 outputs')
    return np.dtype(_DTYPES[code])


def _check(answer: Any, what: str) -> Any:
    """The value of an answer whose code is 0."""
    value, code = answer if isinstance(answer, tuple) else (None, answer)
    if code:
        advice = _ADVICE.get(code, 'see the error codes of CANN, and $HOME/ascend/log')
        raise UserError(f'{what} failed with {code}: {advice}')
    return value


def _open_device(acl: Any, device_id: int) -> None:
    with _GUARD:
        if not _SESSIONS:
            code = acl.init()
            if code not in _ALREADY_DONE:
                _check(code, 'acl.init')
                _STARTED.add('acl')
        if not _SESSIONS[device_id]:
            try:
                _check(acl.rt.set_device(device_id), f'acl.rt.set_device({device_id})')
            except UserError:
                _forget(acl, device_id)
                raise
        _SESSIONS[device_id] += 1


def _close_device(acl: Any, device_id: int) -> None:
    with _GUARD:
        _SESSIONS[device_id] -= 1
        if not _SESSIONS[device_id]:
            try:
                _check(acl.rt.reset_device(device_id), 'acl.rt.reset_device')
            finally:
                _forget(acl, device_id)


def _forget(acl: Any, device_id: int) -> None:
    """Finalise acl after the last session, if it was initialised here."""
    del _SESSIONS[device_id]
    if not _SESSIONS and 'acl' in _STARTED:
        _STARTED.clear()
        code = acl.finalize()
        if code not in _ALREADY_DONE:
            _check(code, 'acl.finalize')
