import io
import json
import zipfile

import numpy as np
import pytest
import torch
from google_metadata import reader

from exporter.errors import DataError, UsageError
from exporter.ir.graph import Graph
from exporter.ir.quant import QuantParams
from exporter.lower.facts import Facts
from exporter.lower.tflite import TFLite
from exporter.lower.tflite.file import ModelFile
from exporter.lower.tflite.metadata import NAME, TensorMeta, append_files, metadata_buffer, metadata_for, read
from exporter.lower.tflite.metadata_schema import decode, encode
from exporter.verify.runtimes.litert import LiteRT

FACTS = Facts(
    name="tiny",
    description="a classifier of three things",
    version="1.2",
    author="someone",
    licence="Apache-2.0",
    mean=(0.5, 0.25, 0.0),
    std=(0.5, 0.25, 1.0),
    labels=("cat", "dog", "Größe"),
    outputs={"logits": "scores before softmax"},
)
LABELS = {"labels.txt": "cat\ndog\nGröße\n".encode()}


def graph(quant: QuantParams | None = None) -> Graph:
    """Image [1, 3, 4, 6] -> logits [1, 3] and features [1, 3, 4, 6]."""
    g = Graph("tiny")
    x = g.add_input("image", (1, 3, 4, 6))
    x.quant = quant
    y = g.emit("relu", [x])
    g.set_outputs({"logits": g.emit("reshape", [y], shape=(24, 3)), "features": y})
    return g


def model_file(buffer: bytes) -> bytes:
    """A one-op .tflite that carries the buffer."""
    file = ModelFile("main")
    x, y = file.tensor("x", (1, 4), "float32"), file.tensor("y", (1, 4), "float32")
    file.op("RELU", [x], y, 1)
    file.add_metadata(NAME, buffer)
    return file.pack({"image": x}, {"logits": y}, "")


@pytest.fixture
def written(tmp_path):
    """A file with every kind of entry, and its path."""
    image = TensorMeta("image", "a picture", (127.5,) * 3, (64.0, 65.0, 66.0), (-2.0,), (2.0,))
    boxes = TensorMeta("classes", labels_file="labels.txt", labels_are_values=True, score_threshold=0.25)
    path = tmp_path / "tiny.tflite"
    path.write_bytes(append_files(model_file(metadata_buffer(FACTS, [image], [boxes])), LABELS))
    return path


def test_googles_reader_reads_what_was_written(written):
    displayer = reader().MetadataDisplayer.with_model_file(str(written))
    told = json.loads(displayer.get_metadata_json())
    assert told == {
        "name": "tiny",
        "description": "a classifier of three things",
        "version": "1.2",
        "author": "someone",
        "license": "Apache-2.0",
        "min_parser_version": "1.0.0",
        "subgraph_metadata": [
            {
                "input_tensor_metadata": [
                    {
                        "name": "image",
                        "description": "a picture",
                        "content": {
                            "content_properties_type": "ImageProperties",
                            "content_properties": {"color_space": "RGB"},
                        },
                        "process_units": [
                            {
                                "options_type": "NormalizationOptions",
                                "options": {"mean": [127.5] * 3, "std": [64.0, 65.0, 66.0]},
                            }
                        ],
                        "stats": {"max": [2.0], "min": [-2.0]},
                    }
                ],
                "output_tensor_metadata": [
                    {
                        "name": "classes",
                        "content": {"content_properties_type": "FeatureProperties", "content_properties": {}},
                        "process_units": [
                            {"options_type": "ScoreThresholdingOptions", "options": {"global_score_threshold": 0.25}}
                        ],
                        "associated_files": [{"name": "labels.txt", "type": "TENSOR_VALUE_LABELS"}],
                    }
                ],
            }
        ],
    }


def test_googles_reader_finds_the_labels(written):
    displayer = reader().MetadataDisplayer.with_model_file(str(written))
    assert list(displayer.get_packed_associated_file_list()) == ["labels.txt"]
    assert displayer.get_associated_file_buffer("labels.txt") == LABELS["labels.txt"]


def test_litert_runs_a_file_with_an_archive_behind_it(written):
    out = LiteRT(written).run([np.array([[-1, 2, -3, 4]], np.float32)])["logits"]
    np.testing.assert_array_equal(out, [[0, 2, 0, 4]])


def test_our_reader_gives_back_model_and_files(written):
    back = read(written)
    assert back.files == LABELS
    assert list(back.buffers) == [NAME]
    (subgraph,) = back.model["subgraph_metadata"]
    (image,) = subgraph["input_tensor_metadata"]
    assert image["content"]["content_properties"] == ("ImageProperties", {"color_space": "RGB"})
    assert image["process_units"][0]["options"] == (
        "NormalizationOptions",
        {"mean": [127.5] * 3, "std": [64.0, 65.0, 66.0]},
    )


def test_a_file_without_metadata_reads_as_empty(tmp_path):
    file = ModelFile("main")
    x = file.tensor("x", (1,), "float32")
    (tmp_path / "bare.tflite").write_bytes(file.pack({"x": x}, {"x": x}, ""))
    back = read(tmp_path / "bare.tflite")
    assert (back.model, back.files, back.buffers) == ({}, {}, {})


def test_the_input_is_an_image_normalised_in_pixel_units():
    subgraph = decode(metadata_for(graph(), FACTS))["subgraph_metadata"][0]
    (image,) = subgraph["input_tensor_metadata"]
    assert (image["name"], image["description"]) == ("image", "RGB image, 6 wide and 4 high")
    assert image["process_units"][0]["options"][1] == {"mean": [127.5, 63.75, 0.0], "std": [127.5, 63.75, 255.0]}
    assert image["stats"] == {"min": [-1.0, -1.0, 0.0], "max": [1.0, 3.0, 1.0]}


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_the_range_of_a_quantised_input_is_its_codes(dtype, low, high):
    subgraph = decode(metadata_for(graph(QuantParams((0.5,), 0, dtype=dtype)), FACTS))["subgraph_metadata"][0]
    assert subgraph["input_tensor_metadata"][0]["stats"] == {"min": [low], "max": [high]}


def test_an_input_without_normalisation_is_no_image():
    subgraph = decode(metadata_for(graph(), Facts("tiny")))["subgraph_metadata"][0]
    assert subgraph["input_tensor_metadata"] == [
        {"name": "image", "content": {"content_properties": ("FeatureProperties", {})}}
    ]


def test_labels_go_to_the_output_that_counts_as_many():
    logits, features = decode(metadata_for(graph(), FACTS))["subgraph_metadata"][0]["output_tensor_metadata"]
    assert logits["associated_files"] == [{"name": "labels.txt", "type": "TENSOR_AXIS_LABELS"}]
    assert logits["description"] == "scores before softmax"
    assert features["name"] == "features"
    assert "associated_files" not in features


def test_labels_that_fit_no_output_belong_to_the_model():
    model = decode(metadata_for(graph(), Facts("tiny", labels=("one", "two"))))
    assert model["associated_files"] == [{"name": "labels.txt"}]  # type UNKNOWN is the default and not stored


# --- detectors --------------------------------------------------------------------------------------------------------
def detector(path, **facts) -> None:
    """A file with the four outputs of detection_postprocess, named by the model as it likes."""
    g = Graph("detector")
    codes, scores = g.add_input("codes", (1, 5, 4)), g.add_input("scores", (1, 5, 3))
    anchors = g.constant("anchors", torch.full((5, 4), 0.5))
    settings = {"score_threshold": 0.25, "iou_threshold": 0.5, "max_detections": 4, "per_class": False}
    found = g.emit_all("detection_postprocess", [codes, scores, anchors], **settings)
    g.set_outputs(dict(zip(("boxes", "classes", "scores_out", "count"), found, strict=True)))
    TFLite().write(g, path, Facts("detector", labels=FACTS.labels, **facts))


def test_googles_reader_sees_a_detector_as_the_task_library_wants_it(tmp_path):
    """Source: tflite-support metadata_writers/object_detector.py, whose names the Task Library looks for."""
    detector(tmp_path / "d.tflite", outputs={"boxes": "where"})
    displayer = reader().MetadataDisplayer.with_model_file(str(tmp_path / "d.tflite"))
    (subgraph,) = json.loads(displayer.get_metadata_json())["subgraph_metadata"]
    feature = {"content_properties_type": "FeatureProperties", "content_properties": {}}
    corners = {"index": [1, 0, 3, 2], "type": "BOUNDARIES"}  # RATIO is the default coordinate type: not stored
    assert subgraph["output_tensor_metadata"] == [
        {
            "name": "location",
            "description": "where",
            "content": {
                "content_properties_type": "BoundingBoxProperties",
                "content_properties": corners,
                "range": {"min": 2, "max": 2},
            },
        },
        {
            "name": "category",
            "content": {**feature, "range": {"min": 2, "max": 2}},
            "associated_files": [{"name": "labels.txt", "type": "TENSOR_VALUE_LABELS"}],
        },
        {
            "name": "score",
            "content": {**feature, "range": {"min": 2, "max": 2}},
            "process_units": [
                {"options_type": "ScoreThresholdingOptions", "options": {"global_score_threshold": 0.25}}
            ],
        },
        {"name": "number of detections", "content": feature},
    ]
    assert subgraph["output_tensor_groups"] == [
        {"name": "detection_result", "tensor_names": ["location", "category", "score"]}
    ]
    assert displayer.get_associated_file_buffer("labels.txt") == LABELS["labels.txt"]


def test_groups_of_outputs_need_a_younger_parser(tmp_path):
    detector(tmp_path / "d.tflite")
    assert read(tmp_path / "d.tflite").model["min_parser_version"] == "1.2.0"
    assert decode(metadata_for(graph(), FACTS))["min_parser_version"] == "1.0.0"


def test_a_detectors_signature_keeps_the_models_own_names(tmp_path):
    detector(tmp_path / "d.tflite")
    assert [t.name for t in LiteRT(tmp_path / "d.tflite").outputs] == ["boxes", "classes", "scores_out", "count"]


def test_decoded_boxes_are_boxes_and_scores_count_the_labels():
    g = Graph("decoded")
    x = g.add_input("x", (1, 5, 4))
    g.set_outputs(
        {"boxes": g.emit("relu", [x]), "scores": g.emit("reshape", [g.add_input("y", (15,))], shape=(1, 5, 3))}
    )
    facts = Facts("decoded", labels=FACTS.labels, boxes="boxes")
    first, second = decode(metadata_for(g, facts))["subgraph_metadata"][0]["output_tensor_metadata"]
    corners = {"index": [1, 0, 3, 2], "type": "BOUNDARIES"}
    assert first["content"]["content_properties"] == ("BoundingBoxProperties", corners)
    assert "associated_files" not in first
    assert second["associated_files"] == [{"name": "labels.txt", "type": "TENSOR_AXIS_LABELS"}]


def test_the_same_facts_give_the_same_bytes():
    files = {"b.txt": b"2", "a.txt": b"1"}
    first, second = (append_files(model_file(metadata_for(graph(), FACTS)), files) for _ in range(2))
    assert first == second
    assert first == append_files(model_file(metadata_for(graph(), FACTS)), dict(sorted(files.items())))


def test_the_archive_is_stored_sorted_undated_and_counted_from_the_files_start():
    model = model_file(metadata_for(graph(), FACTS))
    content = append_files(model, {"b.txt": b"second", "a.txt": b"first"})
    assert content.startswith(model)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
    assert [e.filename for e in entries] == ["a.txt", "b.txt"]
    assert {e.compress_type for e in entries} == {zipfile.ZIP_STORED}
    assert {e.date_time for e in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert entries[0].header_offset == len(model)
    start = int.from_bytes(content[-6:-2], "little")  # the end record's own count of where the directory starts
    assert content[start : start + 4] == b"PK\x01\x02"


def test_weights_that_look_like_an_archive_do_not_mislead(tmp_path):
    model = model_file(b"") + b"PK\x05\x06" + b"\xff" * 18
    content = append_files(model, LABELS)
    assert content.startswith(model)
    for bytes_, files in ((content, LABELS), (model, {})):
        (tmp_path / "m.tflite").write_bytes(bytes_.replace(NAME.encode(), b"OTHER_METADATA_"))
        assert read(tmp_path / "m.tflite").files == files


def test_no_files_leave_the_model_alone():
    assert append_files(b"model", {}) == b"model"


@pytest.mark.parametrize("name", ["", "a/b.txt", "..\\b.txt"])
def test_a_name_that_is_a_path_is_refused(name):
    with pytest.raises(UsageError, match="plain file name"):
        append_files(b"model", {name: b""})


def test_mean_without_std_is_refused():
    with pytest.raises(UsageError, match="mean and std"):
        TensorMeta("image", mean=(1.0,))


def test_every_row_of_the_schema_survives_writing_and_reading():
    told = {
        "name": "all",
        "associated_files": [{"name": "f", "description": "d", "type": "VOCABULARY", "locale": "de", "version": "2"}],
        "subgraph_metadata": [
            {
                "name": "main",
                "input_tensor_metadata": [
                    {
                        "dimension_names": ["batch", "x"],
                        "content": {
                            "content_properties": ("AudioProperties", {"sample_rate": 16000, "channels": 2}),
                            "range": {"min": -2, "max": 3},
                        },
                    },
                    {
                        "content": {
                            "content_properties": (
                                "ImageProperties",
                                {"color_space": "GRAYSCALE", "default_size": {"width": 7, "height": 5}},
                            )
                        }
                    },
                ],
                "output_tensor_metadata": [
                    {
                        "content": {
                            "content_properties": (
                                "BoundingBoxProperties",
                                {"index": [1, 0, 3, 2], "type": "BOUNDARIES", "coordinate_type": "PIXEL"},
                            )
                        }
                    }
                ],
                "output_process_units": [
                    {"options": ("ScoreCalibrationOptions", {"score_transformation": "LOG", "default_score": 0.5})}
                ],
                "output_tensor_groups": [{"name": "detection_result", "tensor_names": ["location", "score"]}],
            }
        ],
    }
    assert decode(encode(told)) == told


@pytest.mark.parametrize("cut", [6, 60, 200])
def test_broken_files_are_a_data_error(written, cut):
    written.write_bytes(written.read_bytes()[:cut])
    with pytest.raises(DataError):
        read(written)


def test_broken_metadata_is_a_data_error(written):
    written.write_bytes(written.read_bytes().replace(b"M001", b"M999"))
    with pytest.raises(DataError, match="M999"):
        read(written)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path / "none.tflite")
