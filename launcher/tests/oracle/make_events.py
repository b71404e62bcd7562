#!/usr/bin/env python3
"""Writes events.json: records of scalars as TensorBoard's own writer frames and encodes them, byte for byte.

    pip install tensorboard==2.21.0 && python make_events.py
"""
import io
import json
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

CASES = [
    {"time": 1795349109.159439, "step": 0, "scalars": [["valid_loss", 7.803978443145752]]},
    {"time": 1795349113.5, "step": 1, "scalars": [["loss", 7.398500919342041], ["learning_rate", 0.0002], ["grad_norm", 0.0]]},
    {"time": 0.0, "step": 300, "scalars": [["peak_memory_bytes", 1431793664.0]]},
    {"time": 1.0, "step": 70000000000, "scalars": []},
]


def record(event: Event) -> str:
    stream = io.BytesIO()
    RecordWriter(stream).write(event.SerializeToString())
    return stream.getvalue().hex()


def scalars(case: dict) -> Event:
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in case["scalars"]]
    return Event(wall_time=case["time"], step=case["step"], summary=Summary(value=values))


oracle = {
    "first": {"time": 1795349109.159439, "record": record(Event(wall_time=1795349109.159439, file_version="brain.Event:2"))},
    "cases": [case | {"record": record(scalars(case))} for case in CASES],
}
Path(__file__).with_name("events.json").write_text(json.dumps(oracle, indent=1) + "\n")
