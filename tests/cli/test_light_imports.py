"""What needs no model imports nothing heavy."""

import subprocess
import sys

import pytest

import gradual


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from gradual.__main__ import main\n"
        "try: main(sys.argv[1:] or ['{0}'])\nexcept SystemExit as e: assert not e.code\n"
        "print([m for m in ('torch', 'transformers', 'lightning', 'numpy', 'jsonargparse') if m in sys.modules])"
    )
    help_text = python(code.format("--help"))
    for command in ("fit", "plan", "validate", "test", "predict", "demo", "init", "download", "convert"):
        assert command in help_text
    assert help_text.endswith("[]\n")
    assert python(code.format("--version")) == f"gradual {gradual.__version__}\n[]\n"


def test_the_package_imports_nothing_heavy_and_offers_its_names():
    heavy = "print([m for m in ('torch', 'transformers', 'lightning') if m in sys.modules])"
    assert python(f"import sys, gradual, gradual.schedule, gradual.data.order; {heavy}") == "[]\n"
    for name in gradual.__all__:
        assert getattr(gradual, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = gradual.fitt
