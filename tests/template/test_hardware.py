"""What the machine is, without torch."""

import json
import subprocess
import sys

from autoresearch import hardware


def test_describe_is_json_and_names_the_machine():
    found = hardware.describe("cpu")
    assert found.kind == "cpu"
    assert found.cores >= 1
    assert found.ram_mb > 100
    assert found.name
    json.dumps(found.to_json())


def test_describing_imports_no_torch():
    code = (
        "import sys; from autoresearch import hardware; hardware.describe();"
        "hardware.gpu_status(); hardware.gpu_processes(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_product_has_no_peak():
    assert hardware.peak_tflops("NVIDIA H100 80GB HBM3") == 989.4
    assert hardware.peak_tflops("NVIDIA GeForce RTX 4090") == 165.2
    assert hardware.peak_tflops("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    assert hardware.peak_tflops("AMD EPYC") is None


def test_mfu_by_hand():
    # 6 * 1e6 + 12 * 2 * 100 * 50 = 6.12e6 FLOPs a token; 1e6 tokens/s on 100 TFLOPS is 6.12 %.
    mfu = hardware.mfu_percent(
        1e6,
        num_matrix_params=1_000_000,
        attention_tokens=50,
        attention_width=100,
        depth=2,
        peak=100.0,
    )
    assert abs(mfu - 6.12) < 1e-9


def test_throttle_bits_are_words():
    assert hardware.throttle_words(0x1) == ()
    assert hardware.throttle_words(0x4 | 0x40) == ("power", "heat")
    assert hardware.throttle_words(0x8) == ("hardware",)
