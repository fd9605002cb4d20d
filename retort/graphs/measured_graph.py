"""A graph beside the reference: the same batches in, outputs of the same names out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_configs.base import COUNTED_TOKENS, TEXT_INPUTS
from retort.errors import InputError
from retort.graphs.made_up_inputs import TYPES
from retort.graphs.timing import fits
from retort.output_names import matched_outputs

if TYPE_CHECKING:
    from onnx_configs.base import ModelFamily, Reference, Tensors
    from retort.cases import Case

logger = logging.getLogger(__name__)

SAMPLE = "a"  # whose outputs tell the names and numbers of dimensions
Complete = Callable[["Tensors", "Tensors"], "Tensors"]


class MeasuredGraph:
    """A session, run on the reference's inputs and read by the reference's output names.

    Args:
        session: ONNX Runtime's session of the graph.
        names: The graph's name for each output; None where it has the reference's names.
        complete: Makes of inputs and outputs what the graph leaves to its consumers; None where
            it leaves nothing.
    """

    def __init__(
        self,
        session: Any,
        names: Mapping[str, str] | None = None,
        complete: Complete | None = None,
    ) -> None:
        self._session = session
        self._names = names
        self._complete = complete
        self._inputs = {value.name: value for value in session.get_inputs()}
        ranks = output_ranks(session)
        self._one_text = any(ranks[name] == 1 for name in (names or {}).values())

    def takes(self, case: Case) -> bool:
        """Tell whether the graph can run a batch.

        A text graph takes no images, one without a mask no padding, one of fixed size no other
        size, and one whose outputs have no batch dimension no more than one text.
        """
        known = {*self._inputs, *TEXT_INPUTS, COUNTED_TOKENS}
        ids, mask = case.inputs["input_ids"], case.inputs["attention_mask"]
        padded = "attention_mask" not in self._inputs and not mask.all()
        if padded or (self._one_text and len(ids) > 1) or not fits(self._session, ids.shape):
            return False
        return all(name in known or not value.any() for name, value in case.inputs.items())

    def run(self, case: Case, wanted: Collection[str]) -> Tensors:
        """Return those of the wanted outputs that the graph gives."""
        inputs = {name: self._input(name, case.inputs) for name in self._inputs}
        if self._names is None:
            return dict(zip(wanted, self._session.run(list(wanted), inputs), strict=True))
        found = self._session.run(list(self._names.values()), inputs)
        outputs = dict(zip(self._names, found, strict=True))
        if self._complete is not None:
            outputs = self._complete(case.inputs, outputs)
        return {name: value for name, value in outputs.items() if name in wanted}

    def _input(self, name: str, inputs: Tensors) -> npt.NDArray[Any]:
        # Consumers fill token types with zeros where a tokenizer gives none.
        value = inputs[name] if name in inputs else np.zeros_like(inputs["input_ids"])
        return value.astype(TYPES.get(self._inputs[name].type, value.dtype.type), copy=False)


def output_ranks(session: Any) -> dict[str, int]:
    """Return the number of dimensions of each of a graph's outputs, in its order."""
    return {value.name: len(value.shape) for value in session.get_outputs()}


def found_graph(
    name: str, session: Any, family: ModelFamily, reference: Reference
) -> MeasuredGraph:
    """Return a graph that any tool may have made, as it can be compared with a reference.

    Raises:
        InputError: If it wants inputs that the reference does not give, or gives nothing that
            the reference gives too.
    """
    sample = reference.tokenize([SAMPLE], "right")
    _refuse_inputs(name, session, sample)
    found = output_ranks(session)
    wanted = {output: value.ndim for output, value in reference.run(sample).items()}
    names = matched_outputs(found, wanted)
    if not names and found.keys() >= set(family.partial_outputs):
        names = {output: output for output in family.partial_outputs}
    if not names:
        raise InputError(
            f"{name}: none of its outputs ({', '.join(found)}) is one of the reference's "
            f"({', '.join(wanted)}); give the --reference that it was made from, or its --family"
        )
    for output, own in names.items():
        if own != output:
            logger.info("%s: its output %s is compared as %s", name, own, output)
    return MeasuredGraph(session, names, partial(family.completed, reference))


def _refuse_inputs(name: str, session: Any, given: Collection[str]) -> None:
    wanted = {value.name for value in session.get_inputs()}
    missing = sorted(wanted - {*given, *TEXT_INPUTS})
    if missing or "input_ids" not in wanted:
        told = f"wants {', '.join(missing)}" if missing else "takes no input_ids"
        raise InputError(
            f"{name}: {told}, so the reference's tokens cannot be given to it; leave such files "
            "out of the folder"
        )
