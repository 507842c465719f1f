"""One run in every rendering: the same rows everywhere, nothing unescaped, nothing wider than asked."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console
from sample_report import DEVICE, HOST, OUTPUTS, SILENT, changed, efficientdet

from exporter.errors import DataError
from exporter.report import figures, from_json, html, markdown, print_report, to_json
from exporter.report.document import document
from exporter.report.facts import LOUD
from exporter.report.parts import FAIL, PASS
from exporter.verify.devices.facts import Latency, RealDevice
from exporter.verify.results import FloatOp, Matched, Report, Snr

HOSTILE = 'a|b <script>alert(1)</script> & "q" `c` *d* [e](f) \\ [bold red]g[/] :smile:'
VOID = {"meta", "link", "img", "br", "hr", "line", "path", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects the rows of tables, attributes and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def printed(report: Report, width: int = 100, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    print_report(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def rows_of_markdown(text: str) -> list[list[str]]:
    """The cells of every pipe table, unescaped; alignment rows left out."""
    rows = []
    for line in text.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append([re.sub(r"\\(.)", r"\1", cell.strip()).replace("&amp;", "&") for cell in cells])
    return rows


def hostile() -> Report:
    report = changed(
        efficientdet(),
        int8_snr=(Snr(output=HOSTILE, pooled=20.0, median=19.0, max_error=1.0),),
        warnings=(HOSTILE,),
    )
    return report.model_copy(update={"title": HOSTILE, "weights": HOSTILE, "command": HOSTILE})


def rows_of_document(report: Report) -> list[list[str]]:
    return [list(row) for table in document(report).tables for row in ([c.title for c in table.columns], *table.rows)]


@pytest.mark.parametrize("report", [efficientdet(), hostile()], ids=["efficientdet", "hostile"])
def test_html_and_markdown_hold_the_same_rows(report: Report) -> None:
    expected = rows_of_document(report)
    assert Page(html(report)).rows == expected
    assert [
        [cell.replace(f"**{FAIL}**", FAIL) for cell in row] for row in rows_of_markdown(markdown(report))
    ] == expected


def test_console_holds_every_row_that_is_no_detail() -> None:
    lines = [" ".join(line.split()) for line in printed(efficientdet(), 200).splitlines()]
    for table in document(efficientdet()).tables:
        shown = [i for i, column in enumerate(table.columns) if not column.detail]
        for row in () if table.detail else table.rows:
            text = " ".join(row[i] for i in shown)
            assert any(text in line for line in lines), text


@pytest.mark.parametrize("render", [printed, markdown, lambda r: Page(html(r)).text], ids=["console", "md", "html"])
def test_the_first_lines_say_what_the_figures_stand_on(render) -> None:  # type: ignore[no-untyped-def]
    told = " ".join(render(efficientdet()).replace("\\", "").split())
    head = told[: told.index(FAIL)]
    for fact in (
        "random weights, seed 0",
        LOUD,
        DEVICE,
        "ai-edge-litert 2.3.0",
        "32 of 48 samples, mse ranges, sha256 9b1deeeeeeee",
        "16 pictures held out of calibration",
    ):
        assert fact in head
    assert "1 of 6 gates: int8 SNR 22.8 dB (limit >= 25 dB)" in told


def test_real_weights_get_no_banner() -> None:
    report = efficientdet().model_copy(update={"random_weights": False, "weights": "coco, sha256 1234"})
    for text in (printed(report), markdown(report), html(report)):
        assert LOUD not in text


def test_every_figure_of_the_run_appears_in_markdown_and_html() -> None:
    report = efficientdet()
    found = report.verification
    assert found is not None
    (target,) = found.targets
    snrs = (*target.float_parity[:9], *target.int8_snr)
    expected = [f"{figure:.1f}" for row in snrs for figure in (row.pooled, row.median)]
    expected += [f"{row.max_error:#.3g}" for row in snrs]
    expected += [f"{row.count:,}" for row in target.integer_parity]
    expected += ["99.99 %", "100 %", "exact"]
    expected += ["83.4", "88.1", "81.1", "173", "182", "169", "0.482x", "30", "20"]
    expected += ["4.57", "15.7", "0.291x", "615", "602 of 604 ops", "99.67 %", "11 quantize/dequantize"]
    expected += ["2 partitions", "QUANTIZE x1 (0.41 %), DEQUANTIZE x10 (0.237 %): 0.647 % of the time"]
    expected += ["61.23 %", "27.14 %", "8.11 %", "island: SNR 9.1 dB in int8", "tflite 2.3.0 or newer"]
    expected += [text for gate in found.gates for text in (gate.name, gate.limit, gate.value)]
    expected += ["0.61", "21.7", "27.1", "51.9", "897", "3,880,067", "2,544,000,000", *OUTPUTS]
    for text in (markdown(report), Page(html(report)).text):
        missing = [figure for figure in expected if figure not in text]
        assert not missing


def test_the_console_fits_one_screen() -> None:
    report = efficientdet()
    assert report.verification is not None
    clean = report.verification.targets[0].files[0].model_copy(update={"float_ops": ()})
    usual = changed(report, files=(clean, report.verification.targets[0].files[1]), warnings=())
    assert len(printed(usual, 100).splitlines()) <= 45


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    report = changed(efficientdet(), int8_snr=(Snr(output="x" * 90, pooled=20.0, median=19.0, max_error=1.0),))
    lines = printed(report, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(lines).count("x") >= 90, "a long name is folded, not cut"


@pytest.mark.parametrize("width", [56, 64, 72, 80, 90])
def test_a_narrow_console_folds_words_but_no_number(width: int) -> None:
    words = printed(efficientdet(), width).split()
    numbers = [
        row[i]
        for table in document(efficientdet()).tables
        for i, column in enumerate(table.columns)
        for row in table.rows
        if column.numeric and not column.detail and not table.detail
    ]
    assert [number for number in numbers if not set(number.split()) <= set(words)] == []


def test_colours_only_on_a_terminal() -> None:
    assert "\x1b" not in printed(efficientdet())
    coloured = printed(efficientdet(), force_terminal=True, color_system="standard")
    assert f"\x1b[1;31m{FAIL}\x1b[0m" in coloured


def test_an_ascii_console_gets_ascii() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=100)
    print_report(efficientdet(), console)
    console.file.flush()
    text = raw.getvalue().decode("ascii")
    assert ">= 25 dB" in text
    assert "x FAIL 1 of 6 gates" in text


def test_a_float_tail_is_named_and_counted_apart() -> None:
    report = efficientdet()
    assert report.verification is not None
    shipped = report.verification.targets[0].files[0]
    tail = Snr(output="boxes", pooled=131.7, median=131.7, max_error=1e-6)
    ends = changed(report, files=(shipped.model_copy(update={"tail_ops": 12, "float_ops": ()}),), tail_parity=(tail,))
    text = markdown(ends)
    inner = shipped.total_ops - shipped.border_ops - 12
    assert f"of {inner} ops between input and heads" in text
    assert "12 ops behind the heads" in text
    assert "tail dB" in text
    assert "131.7" in text
    assert "float tail" not in markdown(report)


def test_detections_are_told_as_pairs() -> None:
    row = Matched(
        file="int8", reference="PyTorch", expected=400, found=396, matched=371,
        least_iou=0.5, most_score=1, mean_iou=0.91234, max_score_error=0.0321,
    )  # fmt: skip
    for text in (
        markdown(changed(efficientdet(), detections=(row,))),
        html(changed(efficientdet(), detections=(row,))),
    ):
        assert all(figure in text for figure in ("400", "396", "371", "92.75 %", "0.9123", "0.0321"))
    assert "mean IoU" not in markdown(efficientdet())


def test_markup_in_a_name_is_printed_as_it_is() -> None:
    assert HOSTILE in printed(hostile(), 300)


def test_html_escapes_and_fetches_nothing() -> None:
    page = Page(html(hostile()))
    assert not page.open
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(page.tags)
    assert not {name for name, _ in page.attributes} & {"src", "href", "xlink:href", "srcset", "action"}
    assert not re.search(r"url\(|@import|https?:", html(hostile()))
    assert "prefers-color-scheme: dark" in html(hostile())


def test_html_draws_outputs_stages_and_ops() -> None:
    page = Page(html(efficientdet()))
    labels = [value for name, value in page.attributes if name == "aria-label"]
    x86 = f"Measured on x86, not on a mobile processor: {DEVICE}, 1 thread"
    assert labels == [
        "Float file against PyTorch, SNR in dB",
        "int8 file against PyTorch, SNR in dB",
        "Size of each file",
        f"Milliseconds an inference, median and 90th percentile. {x86}, in ai-edge-litert 2.3.0 (xnnpack)",
        "Wall time of each stage",
        "Share of the time of one inference",
    ]
    bars = [value for name, value in page.attributes if (name, value) == ("class", "bar")]
    assert len(bars) == 10 + 10 + 2 + 2 + 6 + 3


def test_the_chart_of_latency_ends_in_the_90th_percentile() -> None:
    report = efficientdet()
    assert report.verification is not None
    times = report.verification.targets[0].latency
    (table,) = (table for table in document(report).tables if table.title == "Latency")
    (chart,) = table.charts
    assert [(bar.label, bar.value, bar.reach) for bar in chart.bars] == [
        (name, row.median_ms, row.p90_ms) for name, row in times.items()
    ]
    paths = [value for _, value in Page(html(report)).attributes if value and value.endswith("m0 -4v8")]
    ends = [float(path.partition("H")[2].partition("m")[0]) for path in paths]
    tails = [row.p90_ms for row in times.values() if row.p90_ms and row.p90_ms > row.median_ms]
    left = max(map(len, times)) * 8 + 8
    assert ends == pytest.approx([left + (440 - 64 - left) * tail / max(tails) for tail in tails], abs=0.1)


def test_charts_are_told_in_words() -> None:
    text = html(efficientdet())
    assert text.count("<desc>") == text.count("<svg ")
    for chart in (chart for table in document(efficientdet()).tables for chart in table.charts):
        assert "; ".join(f"{bar.label}: {bar.text}" for bar in chart.bars) in text


def test_markdown_escapes_what_would_be_markup() -> None:
    text = markdown(hostile())
    assert r"a\|b \<script\>alert(1)\</script\> &amp;" in text
    assert "<script>" not in text
    assert "efficientdet_d0," in text, "an underscore inside a word stays as it is"


def test_json_round_trip() -> None:
    report = efficientdet()
    text = to_json(report)
    assert from_json(text) == report
    assert to_json(from_json(text)) == text
    assert text.endswith("}\n")
    assert list(from_json(text).output_shapes) == OUTPUTS
    assert next(iter(json.loads(text).items())) == ("passed", False)


def test_json_keeps_a_hopeless_snr_apart_from_an_exact_one() -> None:
    report = changed(efficientdet(), int8_snr=(SILENT,))
    text = to_json(report)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert from_json(text) == report
    assert "-inf" in markdown(report)
    assert Page(html(report)).rows


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"model": 3}'])
def test_a_foreign_report_is_a_data_error(text: str) -> None:
    with pytest.raises(DataError, match=r"not a report\.json"):
        from_json(text)


def test_a_run_that_stopped_early_says_so() -> None:
    report = efficientdet().model_copy(update={"verification": None, "calibration": None})
    for text in (printed(report), markdown(report), Page(html(report)).text):
        assert "not verified: the run ended before the files were run" in text
        assert "quantize" in text
    assert json.loads(to_json(report))["passed"] is None


def test_without_gates_nothing_is_called_passed() -> None:
    report = changed(efficientdet(), gates=())
    for text in (printed(report), markdown(report), html(report)):
        assert "no gate was set: nothing was judged" in text
        assert PASS not in text


def test_a_latency_table_names_the_processor_and_that_it_is_no_phone() -> None:
    pi = RealDevice(name="local", machine="aarch64", processor="Cortex-A76 (aarch64: asimd asimddp)")
    rows = {"int8": (80.0, 85.0), "float32": (320.0, 322.0)}
    for device, times, said, shown in (
        (HOST, {"int8": (50.0, 51.0)}, "x86, not on a mobile processor: ", [("int8", figures.ABSENT)]),
        (pi, rows, "", [("int8", "0.250x"), ("float32", "1.00x")]),
    ):
        latency = {name: Latency.of(device, 1, [median, median, p90]) for name, (median, p90) in times.items()}
        report = changed(efficientdet(), latency=latency)
        (table,) = (table for table in document(report).tables if table.title == "Latency")
        assert table.note == f"Measured on {said}{device.processor}, 1 thread"
        assert [row[0:5:4] for row in table.rows] == shown


def test_the_console_shows_some_of_many_float_ops_and_counts_the_rest() -> None:
    report = efficientdet()
    assert report.verification is not None
    ops = tuple(FloatOp(op="MUL", where=f"layer{i}", reason="island") for i in range(60))
    many = changed(report, files=(report.verification.targets[0].files[0].model_copy(update={"float_ops": ops}),))
    assert "54 more rows in report.md and report.html" in printed(many)
    assert "layer59" in markdown(many)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (1.0, "100 %"),
        (0.999999, "99.99 %"),
        (0.99987, "99.99 %"),
        (0.9873, "98.73 %"),
        (0.0041, "0.41 %"),
        (1e-7, "< 0.01 %"),
        (0.0, "0 %"),
        (None, figures.ABSENT),
    ],
)
def test_a_share_never_reads_100_percent_unless_it_is(part: float | None, text: str) -> None:
    assert figures.share(part) == text


def test_figures_keep_three_digits() -> None:
    assert [figures.megabytes(size) for size in (3_212, 4_571_236, 15_731_004, 1_234_567_890)] == [
        "0.00321",
        "4.57",
        "15.7",
        "1,235",
    ]
    assert [figures.milliseconds(ms) for ms in (0.4131, 83.42, 999.7, 0.0)] == ["0.413", "83.4", "1,000", "0"]
    assert [figures.large(n) for n in (512, 3_880_067, 2_544_000_000)] == ["512", "3.88 M", "2.54 G"]
    assert [figures.decibels(snr) for snr in (None, 121.44, float("-inf"))] == ["exact", "121.4", "-inf"]
    assert [figures.error(value) for value in (0.0, 1.7e-6, 0.011, 20.5, 123.4)] == [
        "0",
        "1.70e-06",
        "0.0110",
        "20.5",
        "123",
    ]
