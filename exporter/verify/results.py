"""What a run measured, as data: the report renders it, report.json is it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from exporter.progress import StageTime
from exporter.verify.devices.facts import Latency


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class Snr(_Row):
    """One output against float PyTorch over all samples: 10·log10(Σ ref² / Σ (ref − out)²).

    `pooled` sums over samples first, `median` is the median of the per-sample figures; dB. None: no error at all.
    `max_error` is the largest absolute difference.
    """

    output: str
    pooled: float | None
    median: float | None
    max_error: float


class Codes(_Row):
    """One output's int8 codes against the integer interpreter's: share equal, largest difference in LSB, count."""

    output: str
    arithmetic: str
    """In which the file computed: integer, float32 or float16."""
    equal: float
    max_lsb: int
    count: int


class Matched(_Row):
    """Detections of a file against a reference's, over all samples: how many pair up.

    A pair has one class, an IoU of at least `least_iou` and scores at most `most_score` apart. `mean_iou` is over the
    pairs, None without any.
    """

    file: str
    reference: str
    """PyTorch, or the interpreter."""
    expected: int
    found: int
    matched: int
    least_iou: float
    most_score: float
    mean_iou: float | None
    max_score_error: float

    @property
    def share(self) -> float:
        """Pairs per detection of whichever side has more; 1 where neither has any."""
        most = max(self.expected, self.found)
        return self.matched / most if most else 1.0


class Compared(_Row):
    """How many were compared, and how many of them are equal."""

    count: int
    equal: int


class Difference(_Row):
    """A value that a file holds otherwise than the graph."""

    value: str
    graph: str
    file: str


class Agreement(_Row):
    """One int8 file read back, against the graph's own integers, and so against every other file that agrees."""

    file: str
    parameters: Compared
    """Quantised values: scales, zero points and dtype of each, wherever the file states them."""
    weights: Compared
    """Elements of weights and constant operands."""
    biases: Compared
    """Elements, in `biases_as`: int32, or the floats nearest to code times scale where the format has no integers."""
    biases_as: str
    added: int = 0
    """Elements that the format adds, and that do nothing: zeros between joined groups, matrices that copy channels."""
    absent: dict[str, str] = {}
    """Values of the graph that the file has no tensor or parameters for, and why it needs none."""
    differences: tuple[Difference, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


class Distance(_Row):
    """One output's codes, from two of the files or the integer interpreter, both free-running, over all samples."""

    output: str
    one: str
    other: str
    equal: float
    max_lsb: int
    count: int


class FloatOp(_Row):
    """An op that works on floats inside an int8 file, and why."""

    op: str
    where: str
    reason: str
    asked: bool = False
    """Named by keep_float, or a conversion beside nothing but such ops."""


class OutsideDelegate(_Row):
    """An op that XNNPACK did not take: how often, and its share of the time (None where no profile could be had)."""

    op: str
    count: int
    share: float | None


class OpTime(_Row):
    """One line of the profile: kind of op, share of the time of one inference."""

    op: str
    count: int
    share: float


class FileFacts(_Row):
    """What can be read off the file itself, and how the runtime cut it."""

    path: str
    precision: str
    size_bytes: int
    sha256: str
    ops: dict[str, int]
    integer_ops: int
    border_ops: int
    """quantize and dequantize at the model's float inputs and outputs, and before its float tail."""
    tail_ops: int = 0
    """Those behind the border that the model itself draws: its float tail, such as box decoding."""
    float_ops: tuple[FloatOp, ...] = ()
    transposes: int = 0
    partitions: int | None = None
    outside_delegate: tuple[OutsideDelegate, ...] = ()
    outside_share: float | None = None
    top_ops: tuple[OpTime, ...] = ()
    profile_note: str = ""
    """Why there is no profile, where there is none."""
    minimum_runtime: str = ""

    @property
    def total_ops(self) -> int:
        """All operators of the file."""
        return sum(self.ops.values())

    @property
    def inner_ops(self) -> int:
        """Operators between the borders, without the float tail."""
        return self.total_ops - self.border_ops - self.tail_ops

    @property
    def integer_share(self) -> float:
        """Share of integer ops among those between input and output, or where the float tail begins."""
        return self.integer_ops / self.inner_ops if self.inner_ops else 1.0

    @property
    def as_asked_share(self) -> float:
        """The same, with the ops that were asked to stay float."""
        return min(1.0, self.integer_share + sum(op.asked for op in self.float_ops) / max(self.inner_ops, 1))


class Gate(_Row):
    """One condition of the recipe. `family` is accuracy, which exits with 5, or size, latency, instructions or runtime,
    which exit with 6.

    `target` is the file format it was judged on, empty for the run as a whole; `device` where, for verify --on.
    """

    name: str
    target: str = ""
    device: str = ""
    family: str
    limit: str
    value: str
    passed: bool

    @property
    def label(self) -> str:
        """Its name, with device and target where several were judged."""
        place = " ".join(part for part in (self.device, self.target) if part)
        return f"{place}: {self.name}" if place else self.name


class Measurements(_Row):
    """What was measured on the files of one target."""

    target: str
    samples: int = 0
    runtime: str = ""
    float_parity: tuple[Snr, ...] = ()
    """The float file against PyTorch; a float16 one with a float tail up to the heads too."""
    integer_parity: tuple[Codes, ...] = ()
    """The int8 file against the integer interpreter; with a float tail, its body alone, up to the heads."""
    int8_snr: tuple[Snr, ...] = ()
    """The int8 file against PyTorch; with a float tail, the heads too."""
    tail_parity: tuple[Snr, ...] = ()
    """The float tail of an int8 or float16 file against the interpreter's, from the same heads."""
    detections: tuple[Matched, ...] = ()
    """Finished detections: each file's against PyTorch's; of int8 and float16 also against the interpreter's."""
    latency: dict[str, Latency] = {}
    """By precision: of the shipped file, and of the float32 twin of an int8 one."""
    files: tuple[FileFacts, ...] = ()
    """The shipped file first; then the float32 twin that an int8 one is compared with (not shipped)."""


class Score(_Row):
    """One figure of a task metric, 0 to 1, of eager PyTorch or of one file; None: nothing was labelled.

    `drop` is in points (hundredths), how far below the evaluation's first row it is on the same pictures: positive is
    worse. Intervals cover 95 %.
    """

    target: str = ""
    """The file format; empty for PyTorch."""
    file: str
    runtime: str
    shipped: bool = False
    device: str = ""
    """As asked for; empty for this machine."""
    metric: str
    value: float | None
    interval: tuple[float, float] | None
    drop: float | None = None
    drop_interval: tuple[float, float] | None = None


class Evaluation(_Row):
    """Task metrics on a labelled set, the main one first in every file's rows."""

    task: str
    source: str
    images: int
    available: int
    labels: str
    """How many of what is labelled, in words."""
    protocol: str
    """How figures and intervals come about."""
    seen_in_calibration: int = 0
    """Pictures of the set whose content ranges were calibrated on."""
    scores: tuple[Score, ...]

    @property
    def metric(self) -> str:
        """The main one."""
        return self.scores[0].metric


class LayerRow(_Row):
    """One layer of an int8 model: the error it adds, what reached it, what it does to the outputs.

    SNRs are in dB against the float model, None where there is no error. `effect` is the share of the outputs' error,
    every output counting alike; `measured`, or estimated from random projections.
    """

    index: int
    """Place in execution order."""
    value: str
    op: str
    module: str
    line: str
    own_snr: float | None
    inherited_snr: float | None
    effect: float
    measured: bool
    cause: str

    @property
    def place(self) -> str:
        """Module path, or the value where that is empty."""
        return self.module or self.value


class Advice(_Row):
    """Globs to keep in float, the SNR of the outputs foretold and measured (dB), and the integer share by MACs."""

    keep_float: tuple[str, ...]
    expected_snr: float | None
    measured_snr: float | None
    integer_macs: float | None


class Diagnosis(_Row):
    """Where an int8 model loses accuracy, of most effect first; dB against the float model on `samples` samples."""

    samples: int
    output_snr: float | None
    """All outputs, each normalised by its own power."""
    outputs: dict[str, float | None]
    accounted: float | None
    """dB between the sum of the effects and the error that the outputs have."""
    layers: tuple[LayerRow, ...]
    advice: Advice | None = None


class Rung(_Row):
    """One try of the repair ladder: the drop of the task metric with it (0.01 is a point), and whether it was kept."""

    name: str
    detail: str = ""
    drop: float
    integer_macs: float | None
    kept: bool


class Verification(_Row):
    """Everything that was measured on the files of one run."""

    samples: int = 0
    samples_note: str = ""
    """Which pictures, and whether calibration saw them."""
    targets: tuple[Measurements, ...] = ()
    """In the order in which they were asked for."""
    agreement: tuple[Agreement, ...] = ()
    """What the int8 files hold, read back."""
    distances: tuple[Distance, ...] = ()
    """What the int8 files give, against each other and the integer interpreter; up to the heads of a float tail."""
    integer_macs: float | None = None
    """Share of the multiply-accumulates that work on integers, of an int8 graph."""
    evaluation: Evaluation | None = None
    """On a labelled set, where one was given."""
    repair: tuple[Rung, ...] = ()
    """What was tried to keep the drop of the task metric within what was asked for."""
    diagnosis: Diagnosis | None = None
    """Of an int8 model that failed a gate on its accuracy, or whose outputs drown."""
    gates: tuple[Gate, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every gate holds."""
        return all(gate.passed for gate in self.gates)


class CalibrationFacts(_Row):
    """What the ranges came from."""

    source: str
    count: int
    available: int
    sha256: str
    method: str
    names: tuple[str, ...]


class Panel(_Row):
    """A picture with what one of PyTorch and the files found drawn into it."""

    by: str
    file: str
    """In the bundle."""
    text: str
    """The same in words."""


class Picture(_Row):
    """One picture, side by side."""

    name: str
    panels: tuple[Panel, ...]


class Report(_Row):
    """One run, from recipe to verdict."""

    model: str
    title: str
    precision: str
    io: str
    targets: tuple[str, ...]
    weights: str
    """One sentence: which weights these are."""
    random_weights: bool
    """True: no accuracy figure of this report says anything about a task."""
    parameters: int
    macs: int
    input_shapes: dict[str, tuple[int, ...]]
    output_shapes: dict[str, tuple[int, ...]]
    calibration: CalibrationFacts | None = None
    stages: tuple[StageTime, ...] = ()
    verification: Verification | None = None
    pictures: tuple[Picture, ...] = ()
    pictures_note: str = ""
    """Where they come from, and what is drawn."""
    versions: dict[str, str]
    processor: str
    command: str = ""
