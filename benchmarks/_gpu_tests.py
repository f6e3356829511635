"""A step of run_gpu.py: the tests of tests/gpu, a process per file and several at a time, since most of their time is compiling.

python benchmarks/_gpu_tests.py DIR [--seconds S] [FILE ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "gpu"
FIRST = ("test_gpu_only.py", "test_gpu_dct_only.py", "test_gpu_graphs.py", "test_gpu_sampler_step.py", "test_gpu_blur_noise.py")


def result(log: Path, code: int | None) -> dict[str, Any]:
    """Counts from a log of ``pytest -v``, also from one that was cut off; code None: stopped."""
    text = log.read_text(errors="replace")
    found = Counter(re.findall(r"::.* (PASSED|FAILED|SKIPPED|ERROR|XFAIL)\b", text))
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE) or re.findall(r"^(\S+::.*) (?:FAILED|ERROR)\b", text, re.MULTILINE)
    counts = {"passed": found["PASSED"], "failed": found["FAILED"] + found["ERROR"], "skipped": found["SKIPPED"]}
    return {"file": log.stem, **counts, "finished": code is not None, "exit": code, "which failed": failed[:20]}


def run(files: list[Path], out: Path, seconds: float, at_once: int) -> list[dict[str, Any]]:
    deadline, waiting, running, done = time.monotonic() + seconds, list(files), {}, []
    options = ["-v", "-ra", "--tb=short", "--maxfail=10", "-p", "no:cacheprovider"]
    while waiting or running:
        late = time.monotonic() > deadline
        for log, process in list(running.items()):
            if late and process.poll() is None:
                process.kill()
                process.wait()
                done.append(result(log, None))
                del running[log]
            elif process.poll() is not None:
                done.append(result(log, process.returncode))
                del running[log]
        if late:
            for path in waiting:
                log = out / f"{path.stem}.log"
                log.write_text("not started\n")
                done.append(result(log, None))
            break
        while waiting and len(running) < at_once:
            path = waiting.pop(0)
            log = out / f"{path.stem}.log"
            with open(log, "wb") as file:
                running[log] = subprocess.Popen(
                    [sys.executable, "-m", "pytest", *options, str(path)], stdout=file, stderr=subprocess.STDOUT
                )
        time.sleep(0.1)
    return done


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args(argv)
    files = options.files or sorted(FOLDER.glob("test_*.py"), key=lambda path: (path.name not in FIRST, path.name))
    found = run(files, options.out, options.seconds, max(1, min(8, (os.cpu_count() or 2) // 2)))
    (options.out / "tests.json").write_text(json.dumps(found, indent=1) + "\n")
    total = {key: sum(row[key] for row in found) for key in ("passed", "failed", "skipped")}
    unfinished = [row["file"] for row in found if not row["finished"]]
    for row in found:
        counts = ", ".join(f"{row[key]} {key}" for key in total)
        print(f"{row['file']}: {counts}{'' if row['finished'] else ', NOT FINISHED'}")
    # pytest's 5: no test was collected; anything but 0 is no success.
    bad = [row["file"] for row in found if row["failed"] or (row["finished"] and row["exit"])]
    print(", ".join(f"{count} {key}" for key, count in total.items()) + (f"; not finished: {', '.join(unfinished)}" if unfinished else ""))
    return int(bool(bad or unfinished))


if __name__ == "__main__":
    sys.exit(main())
