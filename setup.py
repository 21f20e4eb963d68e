"""Package metadata. CORE and EXTRAS are literals: utils/requirements.py reads them without running this."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Exact versions are in constraints.txt; a lower bound here only says what the code is known to need.
CORE = [
    "torch>=2.13",
    "numpy>=2.0",
    "scipy",  # telephone band filters
    "soundfile",  # FLAC and wav, partial reads
    "soxr",  # resampling between 8 and 16 kHz
    "av",  # telephone codecs that soundfile lacks: G.722, AMR, G.729, Opus
    "omegaconf>=2.3",  # interpolation, ??? and struct mode of NeMo's YAML files
    "PyYAML",
    "safetensors",
    "sentencepiece",  # the tokenizers of CTC fine-tuning, read by NeMo too
    "jiwer",  # error rates
    "RapidFuzz",  # what jiwer counts by: alignments one by one
    "text2num>=3.1",  # scores count "twenty five" as 25, in seven languages; 0.5 MB, brings nothing
    "tensorboard",
    "matplotlib",  # spectrograms and response curves of telephone channels
    "tqdm",
    "Jinja2",  # report.html; escapes whatever a text holds
]
EXTRAS = {
    "llm": [
        "transformers",
        "peft",
        "accelerate",
        "tokenizers",
        "tiktoken",  # reads the ranks file of Fun-ASR's CTC units, as its makers do
        "torchaudio",
    ],
    "export": ["onnx", "onnxscript", "onnxruntime"],  # ONNX of the encoder, compared with onnxruntime
    "chinese": ["OpenCC"],  # scores may count traditional characters as simplified ones
    "huggingface": ["pyarrow"],  # datasets saved on disk, without the datasets package
    "lhotse": ["lhotse", "urllib3"],  # cuts that are not JSON lines; it imports urllib3 without naming it
    "dev": [
        "pytest",
        "pytest-xdist",  # the tests in one process for each core
        "hypothesis",
        "ruff",
        "mypy",
        "types-PyYAML",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "pyarrow",
    ],
}


def package_version() -> str:
    """`__version__` of nest_ssl, read as text: importing the package would need its dependencies."""
    text = (HERE / "nest_ssl" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise ValueError('nest_ssl/__init__.py has no line __version__ = "..."')
    return match.group(1)


setup(
    name="nest_ssl",
    version=package_version(),
    description="NEST pre-training on simulated telephone speech, as shell recipes",
    license="Apache-2.0",
    packages=find_packages(include=["nest_ssl", "nest_ssl.*"]),
    package_data={"nest_ssl.report": ["templates/*"]},
    python_requires=">=3.11,<3.14",
    install_requires=CORE,
    extras_require=EXTRAS,
)
