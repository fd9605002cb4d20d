"""A process that resolves one model and tells what came of it, as JSON on stdout.

huggingface_hub reads its environment when it is imported, so every test of it has a process.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from pathlib import Path

from retort.arguments import SourceArguments
from retort.errors import RetortError
from retort.stages.resolve import resolve


def main() -> int:
    """Resolve the model in the JSON object given as the only argument."""
    logging.basicConfig(level=logging.INFO)
    given = json.loads(sys.argv[1])
    settings = {name: given.pop(name, True) for name in ("with_weights", "progress")}
    try:
        checkpoint = resolve(SourceArguments(**given), **settings)
    except RetortError as error:
        traceback.print_exc()
        sys.stdout.write(json.dumps({"error": str(error)}))
        return error.exit_code
    files = [str(path.relative_to(checkpoint.folder)) for path in _files(checkpoint.folder)]
    told = {"name": checkpoint.name, "commit": checkpoint.commit, "files": sorted(files)}
    told["folder"] = str(checkpoint.folder)
    told["shown"] = repr(checkpoint)
    told["modules"] = sorted({"torch", "transformers", "huggingface_hub"} & set(sys.modules))
    sys.stdout.write(json.dumps(told))
    return 0


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


if __name__ == "__main__":
    sys.exit(main())
