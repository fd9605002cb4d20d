"""The tokenizer of a SPLADE folder, whose tokens are the names of the terms."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers.implementations import BertWordPieceTokenizer

from retort.errors import InputError
from retort.runtime.folder import Folder
from retort.runtime.tokenizer import TextTokenizer

BERT_LENGTH = 512
BERT_TOKENS = ("[UNK]", "[CLS]", "[SEP]")


class SparseTokenizer(TextTokenizer):
    """A tokenizer that also tells its vocabulary."""

    @classmethod
    def of_graph(cls, folder: Folder, graph: Path, max_length: int | None) -> SparseTokenizer:
        """Return a folder's tokenizer, or where it has none, that of Anserini's vocabulary file.

        Args:
            folder: The folder of the graph.
            graph: The ``.onnx`` file; Anserini keeps ``<name>-vocab.txt`` beside ``<name>.onnx``
                or ``<name>-optimized.onnx``.
            max_length: The longest sequence in tokens; None: what the files say.

        Raises:
            InputError: There is neither, or what there is cannot be used.
        """
        name = graph.stem.removesuffix("-optimized")
        vocabularies = [graph.with_name(f"{stem}-vocab.txt") for stem in (graph.stem, name)]
        found = [path for path in vocabularies if path.is_file()]
        if (folder.path / "tokenizer.json").is_file() or not found:
            return cls(folder, max_length)
        return cls._of_vocabulary(found[0], max_length)

    @classmethod
    def _of_vocabulary(cls, path: Path, max_length: int | None) -> SparseTokenizer:
        """Return the uncased tokenizer of BERT with the tokens of a file, one on each line."""
        try:
            lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as UTF-8 ({error}): get it again") from error
        ids = {token: index for index, token in enumerate(lines)}
        missing = [token for token in BERT_TOKENS if token not in ids]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}, which BERT needs: get it again")
        tokenizer = BertWordPieceTokenizer(ids, lowercase=True)
        with TemporaryDirectory() as place:
            folder = Folder(Path(place))
            tokenizer.save(str(folder.path / "tokenizer.json"))
            return cls(folder, max_length or BERT_LENGTH)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every token."""
        return dict(self._tokenizer.get_vocab(with_added_tokens=True))

    @cached_property
    def dimension(self) -> int:
        """The least vocabulary that has every token."""
        return 1 + max(self.ids.values())

    def term(self, index: int) -> str:
        """Return the token of an id; models have more ids than their tokenizer: ``#30600``."""
        return self._tokens.get(index, f"#{index}")

    def term_id(self, term: str) -> int:
        """Return the id that :meth:`term` names so.

        Raises:
            InputError: There is none.
        """
        known = self.ids.get(term)
        if known is not None:
            return known
        if not (term.startswith("#") and term[1:].isdecimal()):
            raise InputError(f"the vocabulary has no term {term!r}: encode with this model")
        return int(term[1:])

    @cached_property
    def _tokens(self) -> dict[int, str]:
        return {index: token for token, index in self.ids.items()}

    @property
    def special_count(self) -> int:
        """How many special tokens are put around a text."""
        return int(self._tokenizer.num_special_tokens_to_add(False))
