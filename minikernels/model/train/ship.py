"""Put a training run's results in their places: ``python -m minikernels.model.train.ship DIR``.

Weights go to weights/; references, scores.json, conversions.json and training.log.jsonl to recorded/.
"""

import argparse
import json
import shutil
from pathlib import Path

from minikernels.model import weights
from minikernels.model.train.train import CONVERSIONS, SHIPPED

FOLDER = Path(__file__).parents[1]
LOGS = ("teacher", "mha", "hybrid", *CONVERSIONS)


def main():
    """Copy and gather what the run left in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    results, recorded = parser.parse_args().results, FOLDER / "recorded"
    for name in weights.NAMES:
        weights.read(results / f"{name}.npz")
        shutil.copy(results / f"{name}.npz", weights.path_of(name))
    for name in ("mha", "hybrid"):
        shutil.copy(results / f"{name}.reference.npz", recorded)
    logs = [(name, results / f"{name}.log.jsonl") for name in LOGS]
    (recorded / "training.log.jsonl").write_text("".join(named(name, path) for name, path in logs if path.exists()))
    write(recorded / "scores.json", scores(results))
    write(recorded / "conversions.json", conversions(results))


def named(name, path):
    """Return a log with the model's name in each line."""
    return "".join(json.dumps({"model": name} | json.loads(line)) + "\n" for line in path.read_text().splitlines())


def scores(results):
    """Return what the models score, and the data that all of them were trained on."""
    models = {name: json.loads((results / f"{name}.scores.json").read_text()) for name in ("teacher", *weights.NAMES)}
    data = [model.pop("data") for model in models.values()]
    if any(other != data[0] for other in data):
        raise SystemExit("these models were trained on different texts")
    return {"data": data[0], "models": models}


def conversions(results):
    """Return what fewer key/value heads cost, by how they were made, before and after the uptraining."""
    found = [(name, results / f"{name}.json") for name in CONVERSIONS]
    rows = [json.loads(path.read_text()) for _, path in found if path.exists()]
    origin, made = ({json.dumps(row.pop(key)) for row in rows} for key in ("from_digest", "made_with"))
    if len(origin) != 1 or len(made) != 1:
        raise SystemExit("these conversions were made from different models, or with different versions")
    mha = json.loads((results / "mha.scores.json").read_text())["run"]
    run = next(row["run"] for row in rows if "run" in row)
    shares = {"share_of_steps": run["steps"] / mha["steps"]}
    shares["share_of_bytes"] = shares["share_of_steps"] * run["batch"] * run["length"] / mha["batch"] / mha["length"]
    rows = [{key: value for key, value in row.items() if key != "run"} for row in rows]
    head = {"from": "mha", "from_digest": json.loads(origin.pop()), "shipped": SHIPPED, "run": run, **shares}
    return head | {"made_with": json.loads(made.pop()), "rows": rows}


def write(path, record):
    """Write a record as JSON."""
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
