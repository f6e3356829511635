"""run_gpu.py without a GPU: the order, the time budgets and the bookkeeping with tiny commands; each step's own script on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import _gpu_accuracy
import _gpu_graphs
import _gpu_summary
import _gpu_tests
import pytest
import run_gpu
import torch
from run_gpu import Step

PYTHON = sys.executable


def python(code: str) -> tuple[str, ...]:
    return (PYTHON, "-c", code)


def records(out: Path) -> dict[str, dict[str, Any]]:
    return {record["step"]: record for record in json.loads((out / "summary.json").read_text())["steps"]}


def test_a_failing_step_loses_nothing(tmp_path: Path) -> None:
    plan = [
        Step("good", python("open('{out}/made.txt', 'w').write('x')"), 20),
        Step("bad", python("print('what happened'); raise SystemExit(3)"), 20),
        Step("absent", ("/no/such/tool",), 20),
        Step("left out", ("true",), 20, needs="compute-sanitizer is not installed"),
        Step("last", python("print('done')"), 20),
    ]
    said: list[str] = []
    assert run_gpu.run(plan, tmp_path, say=said.append) == 1
    found = records(tmp_path)
    assert {name: record["status"] for name, record in found.items()} == {
        "good": "passed", "bad": "failed", "absent": "failed", "left out": "left out", "last": "passed",
    }  # fmt: skip
    assert (tmp_path / "good" / "made.txt").read_text() == "x"
    assert "exit status 3" in found["bad"]["detail"] and "what happened" in found["bad"]["detail"]
    assert "not installed" in found["left out"]["detail"]
    summary = (tmp_path / "summary.md").read_text()
    assert "3 of 5 steps without failure" in summary and "| bad | failed |" in summary
    assert any("last" in line for line in said)
    (tmp_path / "again").mkdir()
    assert run_gpu.run([plan[0], plan[3]], tmp_path / "again", say=said.append) == 0


def test_a_step_has_its_time_and_no_more(tmp_path: Path) -> None:
    """It and what it started are stopped; the others go on; what is left of all is shared."""
    nap = "import time; time.sleep(60)"
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {nap!r}]); print('begun', flush=True); {nap}"
    plan = [Step("slow", python(child), 5), Step("next", python("print(1)"), 20)]
    began = time.monotonic()
    assert run_gpu.run(plan, tmp_path, say=lambda text: None) == 1
    assert time.monotonic() - began < 20
    found = records(tmp_path)
    assert found["slow"]["status"] == "out of time" and "begun" in found["slow"]["detail"] and found["next"]["status"] == "passed"
    assert run_gpu.run(plan[1:], tmp_path, total=1.0, say=lambda text: None) == 1
    assert records(tmp_path)["next"]["status"] == "no time left"


def test_the_real_plan_fits() -> None:
    plan = run_gpu.steps()
    assert sum(step.seconds for step in plan) <= run_gpu.TOTAL < 480
    assert len({step.name for step in plan}) == len(plan)
    for step in plan:
        scripts = [part for part in step.command if part.endswith(".py")]
        assert len(scripts) == 1 and Path(scripts[0]).is_file()
    names = {Path(part).name for step in plan for part in step.command}
    assert {path.name for path in run_gpu.HERE.glob("bench_*.py")} <= names, "a benchmark that no step runs"


@pytest.mark.parametrize("script", ["bench_forward", "bench_sampler", "bench_dct", "bench_train", "roofline"])
def test_the_options_of_the_plan_exist(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each benchmark's parser takes them; without a GPU that is all that it objects to."""
    step = next(step for step in run_gpu.steps() if any(part.endswith(f"{script}.py") for part in step.command))
    module = __import__(script)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if script == "roofline":
        monkeypatch.setattr(module, "measured_ceilings", lambda: pytest.skip("the options are right"))
        module.main(list(step.command[2:]))
    else:
        options = module.arguments(list(step.command[2:]))
        assert options.device == "cuda" and options.quick


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_run(tmp_path: Path) -> None:
    run = subprocess.run([PYTHON, run_gpu.__file__, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert run.returncode == 2 and "sees no CUDA device" in run.stderr and "nothing was run" in run.stderr
    assert not (tmp_path / "out").exists()


def test_bad_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_gpu, "missing", list)
    (tmp_path / "file").write_text("kept")
    for options in (["--out", str(tmp_path)], ["--out", str(tmp_path / "x"), "--only", "nothing"], []):
        with pytest.raises(SystemExit):
            run_gpu.main(options)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_accuracy_is_measured_rightly() -> None:
    """The step's own comparison, with the CPU kernels in the GPU's place; and a wrong result is found."""
    for case in ((8, 8, torch.float32), (5, 7, torch.bfloat16), (6, 4, torch.float64)):
        rows = _gpu_accuracy.rows(case, "cpu", "cpu", "cpu")
        assert all(row["good"] for row in rows), rows
        assert {row["op"].split()[0] for row in rows} >= {"blur_noise", "blurred", "normal", "sampler_step"}
    want = torch.ones(4, dtype=torch.float64)
    for wrong in (want * (1 + 1e-5), want * torch.nan, want * torch.inf):
        assert not _gpu_accuracy.compared("op", wrong.float(), want, 5e-7)["good"]


def test_graphs_are_compared_with_plain_pytorch() -> None:
    found = _gpu_graphs.compare("cpu", graph=False, rounds=1)
    assert found["generate error"] < 1e-5 and found["plain ms"] > 0 and found["generate / plain"] > 0


def test_tests_are_counted_and_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_a.py").write_text("import pytest\ndef test_x(): pass\ndef test_y(): assert 0\ndef test_z(): pytest.skip('no')\n")
    (tmp_path / "test_b.py").write_text("import time\ndef test_x(): pass\ndef test_y(): time.sleep(60)\n")
    files = [str(tmp_path / name) for name in ("test_a.py", "test_b.py")]
    assert _gpu_tests.main([str(tmp_path), *files, "--seconds", "12"]) == 1
    a, b = json.loads((tmp_path / "tests.json").read_text())
    assert (a["passed"], a["failed"], a["skipped"], a["finished"]) == (1, 1, 1, True) and "test_y" in a["which failed"][0]
    assert (b["passed"], b["finished"]) == (1, False)
    assert "not finished: test_b" in capsys.readouterr().out
    assert _gpu_tests.main([str(tmp_path), files[0], "--seconds", "60"]) == 1


def test_goals_from_the_files_of_the_steps(tmp_path: Path) -> None:
    def put(step: str, name: str, content: Any) -> None:
        (tmp_path / step).mkdir()
        (tmp_path / step / name).write_text(json.dumps(content))

    row = {"n": 64, "dtype": "float32", "measured us": 300.0, "memory us": 224.0, "measured / clone": 1.31}
    put("roofline", "roofline_x.json", {"rows": [row | {"op": "blur_noise"}, row | {"op": "step euler", "measured us": 250.0}]})
    times = {"warmops": 1.0, "two matrix products, compiled": 3.1, "torch-dct": 19.0, "torch-dct, compiled": 4.0, "IHDM formula": 21.0}
    rows = [{"contestant": name, "median ms": value} for name, value in times.items()]
    put("forward 64", "forward_x.json", {"cases": [{"shape": "8x3x64x64", "dtype": "float32", "rows": rows}]})
    put("graphs", "graphs.json", {"graph / plain": 2.0})
    put("accuracy", "accuracy.json", {"rows": [{"op": "blur", "shape": "1", "dtype": "float32", "error": 1e-7, "bar": 5e-7, "good": True}]})
    found = {goal["goal"]: goal["reached"] for goal in _gpu_summary.goals(tmp_path)}
    assert list(found.values()) == [False, True, True, False, True, False, True], found
    record = {"step": "roofline", "status": "passed", "seconds": 3.0, "budget s": 50, "detail": ""}
    _gpu_summary.write(tmp_path, [record], 3.0)
    text = (tmp_path / "summary.md").read_text()
    assert "4 of 7 goals reached" in text and text.index("| NO |") < text.index("| yes |")
    assert len(text.splitlines()) < 60


def test_the_summary_survives_broken_files(tmp_path: Path) -> None:
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "graphs.json").write_text("{half a fi")
    assert list(_gpu_summary.goals(tmp_path)) == []
    _gpu_summary.write(tmp_path, [], 0.0)
    assert (tmp_path / "summary.md").exists()
