"""One ONNX graph, opened by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from retort.errors import InputError

TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
IMAGE_INPUTS = frozenset({"pixel_values", "image_grid_thw"})
SUPPLIED_INPUTS = TEXT_INPUTS | IMAGE_INPUTS
ERRORS_ONLY = 3
MOST_THREADS = 1024  # onnxruntime makes as many as it is told, until the memory is full

# onnxruntime's exceptions share no base class, and not every release has all of them.
_ERROR_NAMES = (
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NoSuchFile",
    "NotFound",
    "NotImplemented",
    "RuntimeException",
)
ONNXRUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(onnxruntime_pybind11_state, name)
    for name in _ERROR_NAMES
    if hasattr(onnxruntime_pybind11_state, name)
)


class Graph:
    """A graph ready to run.

    Args:
        path: The ``.onnx`` file, with its external data beside it.
        providers: onnxruntime's execution providers, the preferred one first; None: the CPU.
        threads: Threads inside one operator; None: onnxruntime's choice.

    Attributes:
        path: The ``.onnx`` file.
        inputs: The names of the inputs.
        outputs: The rank of each output, by name, in the graph's order.
        metadata: The graph's ``metadata_props``.

    Raises:
        InputError: The graph cannot be read, asks for inputs that neither texts nor images give,
            or a provider or the number of threads cannot be used.
    """

    def __init__(
        self, path: Path, providers: Sequence[str] | None = None, threads: int | None = None
    ) -> None:
        self.path = path
        self._session = _open_session(path, providers, threads)
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = {value.name: len(value.shape) for value in self._session.get_outputs()}
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        unknown = sorted(set(self.inputs) - SUPPLIED_INPUTS)
        if unknown:
            raise InputError(
                f"{path} asks for the inputs {', '.join(unknown)}, but only "
                f"{', '.join(sorted(SUPPLIED_INPUTS))} are supplied: convert the checkpoint again"
            )

    def run(
        self, feeds: Mapping[str, npt.NDArray[np.int64] | npt.NDArray[np.float32]], output: str
    ) -> npt.NDArray[np.float32]:
        """Return one output of the graph as float32.

        Args:
            feeds: The inputs by name, of text int64 ``[batch, sequence]``; those that the graph
                does not ask for are left out.
            output: The name of the output.

        Raises:
            InputError: An input is missing, or onnxruntime could not run the graph on these.
        """
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise InputError(
                f"{self.path} asks for {', '.join(missing)}, which a model of its family has not: "
                "convert the checkpoint again"
            )
        asked = {name: feeds[name] for name in self.inputs}
        try:
            (values,) = self._session.run([output], asked)
        except ONNXRUNTIME_ERRORS as error:
            shape = list(asked["input_ids"].shape)
            raise InputError(
                f"{self.path} failed on input_ids of shape {shape} ({_first_line(error)}): check "
                "model_max_length in tokenizer_config.json, or convert the checkpoint again"
            ) from error
        return np.asarray(values, dtype=np.float32)


def _open_session(
    path: Path, providers: Sequence[str] | None, threads: int | None
) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    chosen = list(providers) if providers is not None else ["CPUExecutionProvider"]
    unknown = [provider for provider in chosen if provider not in available]
    if unknown:
        raise InputError(
            f"this onnxruntime has no {', '.join(unknown)}: choose from {', '.join(available)}"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    if threads is not None:
        if not 1 <= threads <= MOST_THREADS:
            raise InputError(
                f"threads must be at least 1 and at most {MOST_THREADS}, not {threads}"
            )
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except ONNXRUNTIME_ERRORS as error:
        raise InputError(
            f"{path} cannot be opened by onnxruntime {onnxruntime.__version__} "
            f"({_first_line(error)}): convert the checkpoint again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
