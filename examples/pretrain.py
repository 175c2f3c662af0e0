"""Pretrain an encoder on the generated data set, evaluate it beside an untrained one, and embed clips with it.

    python examples/pretrain.py --epochs 18

18 epochs a stage take about two minutes on two CPU cores.
"""

from __future__ import annotations

import argparse

import crrl_fast
from crrl_fast.data.catalog import open_data
from crrl_fast.evaluation import LinearProbe, NearestNeighbours, RunEvaluation, evaluate

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=18, help="epochs a stage")
parser.add_argument("--fusion", default="distill", help="distill, joint or concat")
options = parser.parse_args()

run = crrl_fast.pretrain("demo", fusion=options.fusion, epochs=options.epochs, lr=0.1, max_frames=30)
for encoder in ("random", run.default_encoder()):
    evaluation = RunEvaluation.open(run, encoder)
    for protocol in (LinearProbe(), NearestNeighbours()):
        print(f"{encoder}, {protocol.name}: {evaluate(evaluation, protocol)['accuracy']:.1f} %")

store, _ = open_data("demo")
features = crrl_fast.load(run).encode([store.clip(i) for i in range(5)])
print(f"{run.path}: features of 5 clips {features.shape}")
