#!/usr/bin/env python3
"""Writes gguf.json: random rows quantised by the gguf package, and the fp32 that the package reads back from them.

    pip install gguf==0.19.0 numpy && python make.py
"""
import json
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

SEED = 20261122
ROWS, COLUMNS = 3, 64
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]

rng = np.random.default_rng(SEED)
cases = []
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    source = (rng.standard_normal((ROWS, COLUMNS)) * 0.1 + 0.02).astype(np.float32)
    packed = quantize(source, kind)
    values = dequantize(packed, kind).astype(np.float32)
    cases.append(
        {
            "type": name,
            "type_id": int(kind),
            "shape": [ROWS, COLUMNS],
            "packed": packed.tobytes().hex(),
            # The exact bits, so that the comparison needs no tolerance.
            "values": values.tobytes().hex(),
        }
    )
out = Path(__file__).with_name("gguf.json")
out.write_text(json.dumps({"made_by": f"gguf, seed {SEED}", "cases": cases}, indent=1) + "\n")
