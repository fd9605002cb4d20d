"""Every option of a conversion, declared once; importing this imports no torch.

A file here holds the options that one stage reads; ``conversion.py`` puts them together.
"""

from retort.arguments.conversion import GROUPS, ConversionArguments
from retort.arguments.export import OPSETS, ExportArguments, Pooling
from retort.arguments.optimize import PRECISIONS, REFUSED_PRECISIONS, OptimizeArguments
from retort.arguments.output import Layout, OutputArguments
from retort.arguments.publish import PublishArguments
from retort.arguments.source import SourceArguments
from retort.arguments.validate import ValidateArguments

__all__ = [
    "GROUPS",
    "OPSETS",
    "PRECISIONS",
    "REFUSED_PRECISIONS",
    "ConversionArguments",
    "ExportArguments",
    "Layout",
    "OptimizeArguments",
    "OutputArguments",
    "Pooling",
    "PublishArguments",
    "SourceArguments",
    "ValidateArguments",
]
