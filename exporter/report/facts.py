"""The sentences of a report: what its figures stand on, the verdict, the shipped file, the run."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.report import figures
from exporter.report.figures import plural
from exporter.report.parts import FAIL, PASS, Fact
from exporter.verify.results import FileFacts, Measurements, Report, Verification

LOUD = "RANDOM WEIGHTS: no figure below says anything about task accuracy."
DIGITS = 12
"""How much of a sha256 is shown where the whole would not fit."""


def head(report: Report) -> tuple[Fact, ...]:
    """First of all: weights, model, processor, runtime, calibration, pictures."""
    found, calibration = report.verification, report.calibration
    facts = [Fact("weights", report.weights)]
    if report.random_weights:
        facts.append(Fact("", LOUD, loud=True))
    facts += [
        Fact(
            "model",
            f"{report.model}, {figures.large(report.parameters)} parameters, {figures.large(report.macs)} MACs, "
            f"{figures.shapes(report.input_shapes)}",
        ),
        Fact("processor", report.processor),
        Fact("runtime", "; ".join(each.runtime for each in found.targets if each.runtime) if found else "not run"),
    ]
    if calibration:
        facts.append(
            Fact(
                "calibrated",
                f"{calibration.source}, {calibration.count} of {plural(calibration.available, 'sample')}, "
                f"{calibration.method} ranges, sha256 {calibration.sha256[:DIGITS]}",
            )
        )
    elif report.precision == "int8":
        facts.append(Fact("calibrated", "not in this run: its plan was given"))
    if found:
        fewer = [f"{each.target} on the first {each.samples}" for each in found.targets if each.samples < found.samples]
        told = found.samples_note or plural(found.samples, "sample")
        facts.append(Fact("verified on", "; ".join([told, *fewer])))
    return tuple(facts)


def verdict(found: Verification | None) -> tuple[bool | None, str]:
    """Whether all gates held (None: nothing was judged), and which did not."""
    if found is None:
        return None, "not verified: the run ended before the files were run"
    if not found.gates:
        return None, "no gate was set: nothing was judged"
    failed = [gate for gate in found.gates if not gate.passed]
    if not failed:
        return True, f"{PASS}: {plural(len(found.gates), 'gate')}, none failed"
    named = ", ".join(f"{gate.label} {gate.value} (limit {gate.limit})" for gate in failed)
    return False, f"{FAIL} {len(failed)} of {plural(len(found.gates), 'gate')}: {named}"


def shipped(found: Measurements, several: bool = False, integer_macs: float | None = None) -> tuple[Fact, ...]:
    """The file that the user gets."""
    if not found.files:
        return ()
    file, target = found.files[0], found.target
    facts = [
        Fact(target if several else "file", f"{file.path}, {figures.megabytes(file.size_bytes)} MB"),
        Fact("sha256", file.sha256, detail=True),
        Fact("operators", f"{plural(file.total_ops, 'op')}, {plural(file.transposes, 'transpose')}"),
        Fact("by kind", _counts(file.ops), detail=True),
    ]
    if file.precision == "int8":
        end = "heads" if file.tail_ops else "output"
        place = "at the border" if target == "tflite" else "around them"
        macs = f", {figures.share(integer_macs)} of the MACs" if integer_macs is not None else ""
        facts.append(
            Fact(
                "integer",
                f"{figures.count(file.integer_ops)} of {plural(file.inner_ops, 'op')} between input and {end} "
                f"({figures.share(file.integer_share)}){macs}; {file.border_ops} quantize/dequantize {place}",
            )
        )
        if kept := sum(op.asked for op in file.float_ops):
            facts.append(Fact("kept float", f"{plural(kept, 'op')}, as asked (keep_float)"))
        if file.tail_ops:
            facts.append(
                Fact("float tail", f"{plural(file.tail_ops, 'op')} behind the heads: the model's own, by design")
            )
    if file.partitions is not None:
        facts.append(Fact("delegate", f"XNNPACK, {plural(file.partitions, 'partition')}; {_outside(file)}"))
    if file.profile_note:
        facts.append(Fact("profile", f"none: {file.profile_note}"))
    if file.minimum_runtime:
        facts.append(Fact("needs", f"{target} {file.minimum_runtime} or newer"))
    return tuple(facts)


def _outside(file: FileFacts) -> str:
    """The ops that the delegate did not take, and what they cost."""
    if not file.outside_delegate:
        return "no op outside"
    ops = (
        f"{row.op} x{row.count}" + (f" ({figures.share(row.share)})" if row.share is not None else "")
        for row in file.outside_delegate
    )
    total = f": {figures.share(file.outside_share)} of the time" if file.outside_share is not None else ""
    return f"outside: {', '.join(ops)}{total}"


def run(report: Report) -> tuple[Fact, ...]:
    """How to get the same again."""
    facts = [
        Fact("command", report.command),
        Fact("inputs and outputs", report.io),
        Fact("output shapes", figures.shapes(report.output_shapes)),
        Fact("parameters", figures.count(report.parameters)),
        Fact("MACs", figures.count(report.macs)),
        Fact("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]
    if report.calibration:
        facts.append(Fact("calibration sha256", report.calibration.sha256))
        facts.append(Fact("calibration samples", ", ".join(report.calibration.names)))
    return tuple(fact for fact in facts if fact.text)


def _counts(ops: Mapping[str, int]) -> str:
    """Most frequent first."""
    return ", ".join(f"{op} {number}" for op, number in sorted(ops.items(), key=lambda item: (-item[1], item[0])))
