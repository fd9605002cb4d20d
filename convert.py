"""Convert a retrieval or NER checkpoint to an ONNX folder; this file tells how.

resolve the checkpoint → choose its family → export → optimize → quantize → place → package →
validate → record → publish. Each step is one function in one file, the stages in
``retort/stages``, and takes and returns frozen values; what a family of models has of its own is
one file in ``onnx_configs``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from retort.argument_parser import parse_arguments
from retort.arguments import ConversionArguments
from retort.command import run_command
from retort.memory import collect_rarely, leave_quickly
from retort.talk import set_up_logging, show_progress

if TYPE_CHECKING:
    from pathlib import Path

    from onnx_configs.base import Reference
    from retort.artifact import Artifact
    from retort.output.output_folder import OutputFolder
    from retort.plan import Plan
    from retort.recipes.trials import Trials
    from retort.references.releasable import ReleasableReference
    from retort.report import ValidationReport

logger = logging.getLogger("retort.convert")


@dataclass(frozen=True)
class Conversion:
    """A finished conversion: what was planned, measured, found by --verify, and published."""

    plan: Plan
    report: ValidationReport | None
    verified: tuple[str, ...]
    url: str | None


def main(argv: Sequence[str] | None = None, program: str = "convert.py") -> int:
    """Run the command line and return its exit code."""
    collect_rarely()
    return run_command(lambda: _command(parse_arguments(argv, program)))


def decide(arguments: ConversionArguments) -> Plan:
    """Look at the checkpoint's small files and decide what will be done.

    Raises:
        InputError: If the arguments or the checkpoint cannot be used.
    """
    from retort.output.stop_signals import stop_signals_wait
    from retort.stages.publish import check_publish_arguments
    from retort.stages.resolve import resolve

    check_publish_arguments(arguments)
    checkpoint = resolve(arguments, with_weights=False, progress=False)

    with stop_signals_wait():  # onnx's extension dies of a Ctrl-C while it is loaded
        from onnx_configs import choose_family, families
        from retort.plan import make_plan

        families()
    return make_plan(arguments, checkpoint, choose_family(checkpoint, arguments))


def convert(arguments: ConversionArguments) -> Conversion:
    """Convert one checkpoint; its folder appears whole or not at all.

    Raises:
        InputError: If the arguments or the checkpoint cannot be used.
        ConversionError: If a stage fails; after a failed upload the folder stays.
        FidelityError: If an fp32 file does not agree with the original model.
    """
    plan = decide(arguments)

    from retort.card.model_card import write_card
    from retort.output.output_folder import output_folder
    from retort.output.temporary_files import temporary_files_in
    from retort.page import REPORT
    from retort.page.report_page import write_page
    from retort.record import write_record
    from retort.stages.package import package
    from retort.stages.resolve import resolve

    with output_folder(plan.target, force=arguments.force, source=plan.checkpoint.folder) as output:
        at_commit = replace(arguments, revision=plan.checkpoint.commit or arguments.revision)
        resolve(at_commit, progress=show_progress(quiet=arguments.quiet))  # now with weights
        reference = load_original(arguments, plan) if plan.searches else None
        trials = prepare_trials(arguments, plan, reference) if reference else None
        with temporary_files_in(output.scratch):
            placed = make_graphs(arguments, plan, trials, output)
        links = package(placed, plan.links, plan.checkpoint, plan.family, arguments, output.folder)
        report, verified = check(arguments, plan, placed, output, reference)
        write_record(output.folder, arguments, plan, placed, links, report)
        if report:
            write_page(output.folder / REPORT, plan.checkpoint.name, report)
        write_card(output.folder, plan.checkpoint, plan.family)
    url = upload(arguments, plan.target)
    return Conversion(replace(plan, links=links), report, verified, url)


def load_original(arguments: ConversionArguments, plan: Plan) -> ReleasableReference:
    """Load the untouched model, which recipes and every file are measured beside."""
    from retort.stages.validate import load_reference

    return load_reference(plan.family, plan.checkpoint, arguments)


def prepare_trials(arguments: ConversionArguments, plan: Plan, reference: Reference) -> Trials:
    """Return what 8-bit recipes are tried on: texts, and the untouched model."""
    from retort.recipes.trials import Trials, trial_texts

    dataset, field = arguments.calibration_dataset, arguments.calibration_field
    calibration, held_out = trial_texts(dataset, field, arguments.calibration_samples)
    progress = show_progress(quiet=arguments.quiet)
    return Trials(plan.family, reference, calibration, held_out, plan.vocabulary, progress)


def make_graphs(
    arguments: ConversionArguments, plan: Plan, trials: Trials | None, output: OutputFolder
) -> dict[str, Artifact]:
    """Export, optimize and quantize; return the finished graphs by their names in the folder."""
    from retort.stages.export import export
    from retort.stages.package import place_graphs

    variants: dict[str, Artifact] = {}
    for stem, graph_arguments in plan.family.graphs(arguments).items():
        logger.info("exporting %s (%s)", plan.checkpoint.model_id, plan.family.name)
        scratch = output.scratch / stem
        portable = export(plan.checkpoint, plan.family, graph_arguments, scratch / "export")
        files = plan.graphs[stem]
        variants |= make_variants(arguments, plan, trials, files, portable, scratch)
    logger.info("packaging %d files", len(variants))
    return place_graphs(variants, plan.checkpoint, output.folder)


def make_variants(
    arguments: ConversionArguments,
    plan: Plan,
    trials: Trials | None,
    files: Mapping[str, str],
    portable: Artifact,
    scratch: Path,
) -> dict[str, Artifact]:
    """Optimize and quantize one graph; return it and what was made of it by their names."""
    from retort.stages.optimize import optimize
    from retort.stages.quantize import quantize
    from retort.stages.search import search

    variants = {files["fp32"]: portable}
    optimized: Artifact | None = None
    if plan.optimize:
        logger.info("optimizing at level %d", plan.optimize)
        optimized = optimize(
            portable,
            plan.checkpoint,
            plan.optimize,
            scratch / "optimize",
            skip_shape_inference=arguments.skip_shape_inference,
        )
        variants[files["optimized"]] = optimized
    for settings in plan.quantize:
        logger.info("quantizing to %s", settings.precision)
        source = plan.quantize_from(optimized, portable, settings)
        folder = scratch / settings.precision
        if trials is not None and settings.searches:
            made = search(source, settings, trials, folder)
        else:
            made = quantize(source, settings, folder)
        variants[files[settings.precision]] = made
    return variants


def check(
    arguments: ConversionArguments,
    plan: Plan,
    placed: dict[str, Artifact],
    output: OutputFolder,
    reference: ReleasableReference | None = None,
) -> tuple[ValidationReport | None, tuple[str, ...]]:
    """Measure every file against the untouched model, and run the samples of --verify."""
    from retort.stages.validate import check_load, require_agreement, validate
    from retort.stages.verify import sample_texts, verify

    if arguments.skip_validation:
        check_load(placed)
    report: ValidationReport | None = None
    verified: tuple[str, ...] = ()
    if reference is None and (not arguments.skip_validation or arguments.verify):
        reference = load_original(arguments, plan)
    if reference and not arguments.skip_validation:
        progress = show_progress(quiet=arguments.quiet)
        logger.info("validating %d files against %s", len(placed), reference.library)
        report = validate(
            placed, plan.family, reference, vocabulary=plan.vocabulary, progress=progress
        )
        logger.info("%s", report.table())
        require_agreement(report, arguments.min_fidelity)
    if reference and arguments.verify:
        texts = sample_texts(plan.checkpoint, arguments.verify_text)
        exact = [name for name, artifact in placed.items() if artifact.precision == "fp32"]
        files = list(placed)
        verified = verify(output.folder, files, plan.family, reference, texts, exact=exact)
    return report, verified


def upload(arguments: ConversionArguments, folder: Path) -> str | None:
    """Publish the finished folder where --push_to_hub says, and return its address."""
    if arguments.push_to_hub is None:
        return None
    from retort.stages.publish import publish

    return publish(
        folder,
        arguments.push_to_hub,
        private=arguments.private,
        token=arguments.token,
        unvalidated=arguments.push_unvalidated,
        progress=show_progress(quiet=arguments.quiet),
    )


def _command(arguments: ConversionArguments) -> None:
    set_up_logging(quiet=arguments.quiet, verbose=arguments.verbose)
    if arguments.dry_run:
        from retort.output.output_rules import refuse_existing

        plan = decide(arguments)
        refuse_existing(plan.target, arguments.force)
        print(json.dumps(plan.as_json(), ensure_ascii=False))
        return
    result = convert(arguments)
    if arguments.json:
        record = {**result.plan.as_json(), "validation": result.report and result.report.as_json()}
        found = {"verify": result.verified, "url": result.url}
        print(json.dumps({**record, **found}, ensure_ascii=False))
        return
    for line in (*result.verified, result.plan.target, *filter(None, [result.url])):
        print(line)


if __name__ == "__main__":
    exit_code = main()
    leave_quickly()
    sys.exit(exit_code)
