"""What an output folder is, which targets are refused, and what a failure leaves (Linux)."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retort.errors import ConversionError, InputError, RetortError
from retort.output.output_folder import link_or_copy, output_folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of an output folder whose parents do not exist yet."""
    return tmp_path / "out" / "org" / "model"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return the folder of a checkpoint with one file and one folder."""
    folder = tmp_path / "checkpoint"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def write_finished(target: Path, text: str = "old") -> None:
    target.mkdir(parents=True)
    (target / "conversion.json").write_text(text)


def contents(folder: Path) -> dict[str, str | None]:
    """Return every path in a folder with its text, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every path in a folder with its size and the time of its last change."""
    found = {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*")}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


@contextmanager
def refused(target: Path, message: str) -> Iterator[None]:
    """Expect a refusal before any work, in one line, that changes nothing anywhere near."""
    near = next(path for path in target.absolute().parents if path.is_dir())
    before = listing(near) if near != Path("/proc") else {}
    with pytest.raises(InputError, match=message) as caught:
        yield
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert before == (listing(near) if near != Path("/proc") else {})


def write_to_a_full_disk(path: Path) -> None:
    path.symlink_to("/dev/full")
    path.write_text("graph")


def write_half_and_raise(folder: Path, error: BaseException) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "half").write_text("half")
    raise error


def run(target: Path, *, force: bool = False, source: Path | None = None) -> None:
    with output_folder(target, force=force, source=source) as output:
        (output.folder / "conversion.json").write_text("new")


def test_the_target_appears_at_the_end_with_all_that_was_written(target: Path) -> None:
    with output_folder(target, force=False) as output:
        assert output.folder == target.with_name(f"model.partial-{os.getpid()}")
        assert output.scratch.parent == output.folder
        (output.scratch / "large").write_text("temporary")
        (output.folder / "onnx").mkdir()
        (output.folder / "onnx" / "model.onnx").write_text("graph")
        assert not target.exists()
    assert contents(target.parent) == {
        "model": None,
        "model/onnx": None,
        "model/onnx/model.onnx": "graph",
    }


def test_hard_links_survive(target: Path) -> None:
    with output_folder(target, force=False) as output:
        (output.folder / "a.onnx").write_text("graph")
        link_or_copy(output.folder / "a.onnx", output.folder / "b.onnx")
    assert (target / "a.onnx").samefile(target / "b.onnx")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o027, 0o750), (0o002, 0o775)])
def test_permissions_follow_the_umask(target: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        run(target)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (target, target.parent)] == [mode, mode]


def test_a_relative_target_stays_where_it_was_meant_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with output_folder(Path("out/model"), force=False):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert (tmp_path / "out" / "model").is_dir()


def test_an_existing_folder_is_replaced_only_with_force(target: Path) -> None:
    write_finished(target)
    with refused(target, "exists; pass --force to replace it"):
        run(target)
    run(target, force=True)
    assert contents(target.parent) == {"model": None, "model/conversion.json": "new"}


def test_an_empty_folder_is_replaced_with_force(target: Path) -> None:
    target.mkdir(parents=True)
    run(target, force=True)
    assert contents(target) == {"conversion.json": "new"}


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_retort_did_not_make_is_never_replaced(target: Path, force: bool) -> None:
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("years of work")
    with refused(target, r"has no conversion\.json.*move it away"):
        run(target, force=force)


def test_a_folder_that_appears_during_the_work_is_not_replaced(target: Path) -> None:
    with pytest.raises(InputError, match="exists"), output_folder(target, force=False):
        write_finished(target, "another program's")
    assert contents(target.parent) == {
        "model": None,
        "model/conversion.json": "another program's",
    }


def test_a_file_is_never_replaced(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_text("a file")
    with refused(target, "is a file"):
        run(target, force=True)


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_never_replaced(target: Path, tmp_path: Path, exists: bool) -> None:
    if exists:
        write_finished(tmp_path / "real")
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path / "real")
    with refused(target, "a link"):
        run(target, force=True)
    assert target.is_symlink()


@pytest.mark.parametrize(
    "place", ["checkpoint", "checkpoint/1_Pooling", "checkpoint/a/b", ".", "link", "link/onnx"]
)
def test_the_checkpoint_is_never_harmed(tmp_path: Path, checkpoint: Path, place: str) -> None:
    (tmp_path / "link").symlink_to(checkpoint)
    (tmp_path / "conversion.json").write_text("{}")
    with refused(tmp_path / place, "would harm the checkpoint"):
        run(tmp_path / place, force=True, source=checkpoint)


def test_a_file_that_the_checkpoint_links_to_is_not_replaced(
    tmp_path: Path, checkpoint: Path
) -> None:
    write_finished(tmp_path / "model")
    (checkpoint / "model.safetensors").symlink_to(tmp_path / "model" / "conversion.json")
    with refused(tmp_path / "model", "would harm the checkpoint"):
        run(tmp_path / "model", force=True, source=checkpoint)


def test_a_checkpoint_that_looks_like_a_leftover_is_not_removed(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.partial-123"
    write_finished(checkpoint)
    with refused(tmp_path / "model", "would harm the checkpoint"):
        run(tmp_path / "model", source=checkpoint)


def test_a_target_beside_the_checkpoint_is_fine(tmp_path: Path, checkpoint: Path) -> None:
    before = contents(checkpoint)
    run(tmp_path / "checkpoint-onnx", source=checkpoint)
    assert contents(checkpoint) == before


def test_a_parent_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    # Root may write in any folder of a disk; nobody may in a file, nor in /proc.
    for parent in (tmp_path / "file", tmp_path / "file" / "sub", Path("/proc"), Path("/proc/sub")):
        target = parent / "model"
        with refused(target, f"could not write {target}: .*another --output_parent_dir"):
            run(target)


def test_a_lock_file_that_is_a_link_is_not_followed(target: Path, tmp_path: Path) -> None:
    target.parent.mkdir(parents=True)
    (tmp_path / "valuable").write_text("keep")
    target.with_name("model.partial-lock").symlink_to(tmp_path / "valuable")
    with pytest.raises(InputError, match="could not write"):
        run(target)
    assert (tmp_path / "valuable").read_text() == "keep"


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    "error", [ValueError("a defect"), KeyboardInterrupt(), SystemExit(7), RetortError("told")]
)
def test_any_exception_leaves_everything_as_it_was(
    target: Path, tmp_path: Path, error: BaseException, old: bool
) -> None:
    if old:
        write_finished(target)
    before = contents(tmp_path)
    with pytest.raises(type(error)) as caught, output_folder(target, force=True) as output:
        write_half_and_raise(output.folder, error)
    assert caught.value is error
    assert contents(tmp_path) == before


def test_a_new_parent_in_which_another_run_works_stays_after_an_error(target: Path) -> None:
    other = target.with_name("other")
    with pytest.raises(ValueError, match="stop"), output_folder(target, force=False):
        write_half_and_raise(other, ValueError("stop"))
    assert contents(target.parent) == {"other": None, "other/half": "half"}


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(target: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught, output_folder(target, force=False) as output:
        write_to_a_full_disk(output.folder / "model.onnx")
    assert str(caught.value) == (
        f"could not write {target}: No space left on device; "
        "free space there, or choose another --output_parent_dir"
    )
    assert contents(tmp_path) == {}


def test_a_file_over_the_limit_is_told_and_leaves_nothing(target: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with (
            pytest.raises(ConversionError, match=r"File too large; raise the limit .*ulimit -f"),
            output_folder(target, force=False) as output,
        ):
            (output.folder / "model.onnx").write_bytes(bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(tmp_path) == {}


def test_a_refused_write_names_the_file(target: Path) -> None:
    told = rf"could not write {target}: .* \(/sys/retort\); .*another --output_parent_dir"
    with pytest.raises(ConversionError, match=told), output_folder(target, force=False):
        Path("/sys/retort").mkdir()


def test_an_error_of_the_body_that_is_no_matter_of_the_disk_stays_what_it_is(
    target: Path,
) -> None:
    with pytest.raises(FileNotFoundError), output_folder(target, force=False) as output:
        (output.folder / "missing").read_text()


def test_a_failure_to_put_the_folder_in_place_is_told(target: Path) -> None:
    told = f"could not write {target}: No such file"
    with pytest.raises(ConversionError, match=told), output_folder(target, force=False) as output:
        shutil.rmtree(output.folder)


def test_a_reserved_target_is_refused(tmp_path: Path) -> None:
    with refused(tmp_path / "model.partial-7", "cannot name an output folder"):
        run(tmp_path / "model.partial-7")
