"""Three minutes of training on two cores make digits that a classifier of real digits recognises. Run with ``pytest -m slow``."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from warmdiff.cli import main

MINUTES = 2.5  # start, sampling and saving are within the three


@pytest.mark.slow
def test_three_minutes_of_digits(tmp_path: Path) -> None:
    began = time.monotonic()
    assert main(["train", "--out", str(tmp_path / "run"), "--images", "100_000_000", "--minutes", str(MINUTES), "--device", "cpu"]) == 0
    for labels in ("all", "none"):
        assert main(["sample", str(tmp_path / "run"), "--labels", labels, "--out", str(tmp_path / f"{labels}.npz"), "--device", "cpu"]) == 0
    assert time.monotonic() - began < 180
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, test_size=0.3, random_state=0, stratify=y)
    for judge in (LogisticRegression(max_iter=2000), MLPClassifier((64,), max_iter=800, random_state=0)):
        judge.fit(x_train, y_train)
        assert judge.score(x_test, y_test) >= 0.95
        for labels in ("all", "none"):
            with np.load(tmp_path / f"{labels}.npz") as file:
                chance = judge.predict_proba(file["images"].reshape(64, 64) / 255)
                classes, sure = set(chance.argmax(1)), (chance.max(1) >= 0.7).mean()
                print(type(judge).__name__, labels, len(classes), "classes, confident in", sure)
                assert len(classes) >= 8
                if labels == "all":
                    assert sure >= 0.7
                    assert (chance.argmax(1) == file["labels"]).mean() >= 0.6  # by chance: 0.1
