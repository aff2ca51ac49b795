"""Train the shipped models.

``python -m minikernels.model.train.train --models teacher mha hybrid --conversions G2-aligned G1-aligned --out DIR``
writes to DIR, for each model: NAME.npz (float16 weights), NAME.log.jsonl, NAME.scores.json and, while it runs, a
checkpoint from which a second call goes on. A conversion turns the ``mha.npz`` it finds there into a model of fewer
key/value heads, and writes its scores before and after the uptraining; G2-aligned is shipped as ``gqa2``, G1-aligned
as ``mqa``. Everything but the teacher learns from the teacher too, which must be there first and is not shipped.
"""

import argparse
import gzip
import json
import lzma
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from minikernels.model import text, weights
from minikernels.model.config import Config
from minikernels.model.train import convert
from minikernels.model.train.optimise import append, bits_per_byte, optimise
from minikernels.model.train.torch_model import Decoder
from minikernels.model.train.update import Run

CONFIGS = {
    "teacher": Config(layers=("attention",) * 6, M=384, H=6, G=6, D=64, F=1024),
    "mha": Config(F=384),
    "hybrid": Config(layers=("mamba", "mamba", "attention", "mamba"), G=2, F=384, rotary=False),
}
# 28 MB are few: a small model alone learns much of them by heart. A larger one with dropout generalises better, and its
# probabilities tell the small one what generalises.
RUNS = {
    "teacher": Run(steps=8000, batch=64, dropout=0.2, validate_every=1000),
    "mha": Run(steps=22000, taught=0.7),
    "hybrid": Run(steps=16000, taught=0.7),
}
# A conversion takes 5% of mha's steps; each of them sees four times the text, as so few want a surer direction.
UPTRAINED = Run(steps=round(0.05 * RUNS["mha"].steps), batch=128, rate=3e-3, warmup=50, taught=0.7, validate_every=250)
SHIPPED = {"G2-aligned": "gqa2", "G1-aligned": "mqa"}
CONVERSIONS = tuple(f"G{G}-{method}" for G in (4, 2, 1) for method in convert.METHODS)
REFERENCE_TEXT = b"def softmax(x):\n    return exp(x - max(x)) / sum(exp(x))\n"


def main():
    """Train what the command line names."""
    arguments = _arguments()
    torch.set_float32_matmul_precision("high")
    texts = {split: np.frombuffer(text.corpus(split, arguments.library), np.uint8) for split in text.SPLITS}
    provenance = text.provenance(arguments.library)
    job = Job(texts, provenance, arguments.out, arguments.scale, arguments.seed, arguments.seconds)
    for name in arguments.models:
        job.train(name)
    for name in arguments.conversions:
        job.convert(name, uptrain=not arguments.only_convert)


@dataclass
class Job:
    """Texts, their provenance, and where results go; `scale` shortens every run, for a trial."""

    texts: dict
    provenance: dict
    out: Path
    scale: float = 1.0
    seed: int = 0
    seconds: float | None = None

    def train(self, name):
        """Train one model, score it and write all that ships with it."""
        torch.manual_seed(self.seed)
        model = Decoder(CONFIGS[name]).to(_device())
        taken = self._optimise(name, model, RUNS[name])
        if taken is not None:
            self.ship(name, model, taken)

    def convert(self, name, uptrain):
        """Convert ``mha`` to fewer key/value heads, uptrain it if asked to, and ship gqa2 and mqa."""
        config, mha, seal = weights.read(self.out / "mha.npz")
        G, method = int(name[1]), name[3:]
        model = _decoder(*convert.pool(config, mha, G, method, seed=self.seed))
        row = {"from_digest": seal, "G": G, "method": method, "converted": scores(model, self.texts["held_out"])}
        if uptrain:
            started, taken = time.monotonic(), self._optimise(name, model, UPTRAINED)
            if taken is None:
                return
            row |= {"uptrained": scores(model, self.texts["held_out"]), "run": asdict(taken)}
            row |= {"seconds": round(time.monotonic() - started, 1)}
            if name in SHIPPED:
                self.ship(SHIPPED[name], model, taken, converted_from="mha", not_uptrained=row["converted"])
        print(row, flush=True)
        (self.out / f"{name}.json").write_text(json.dumps(row | {"made_with": _versions()}, indent=1) + "\n")

    def _optimise(self, name, model, run):
        """Run what is left of one run on a model; return what was run, or None if time was short."""
        self.out.mkdir(parents=True, exist_ok=True)
        steps = max(1, round(run.steps * self.scale))
        run = replace(run, steps=steps, validate_every=min(run.validate_every, steps), seed=self.seed)
        # Twice the library, so that its tests are no more than half.
        library = np.concatenate([self.texts["train"], self.texts["train"], self.texts["tests"]])
        log, folder = append(self.out / f"{name}.log.jsonl"), self.out / f"{name}.run"
        teacher = self._teacher() if run.taught else None
        if optimise(model, library, self.texts["validation"], run, folder, log, self.seconds, teacher):
            return run
        print(f"{name}: out of time; call again to go on")
        return None

    def _teacher(self):
        path = self.out / "teacher.npz"
        if not path.exists():
            raise SystemExit(f"no teacher at {path}: train it first, with --models teacher")
        return _decoder(*weights.read(path)[:2])

    def ship(self, name, model, run, **more):
        """Write a model's float16 weights, a reference of its outputs, and its scores."""
        seal = weights.write(self.out / f"{name}.npz", model.config, _arrays(model))
        _, shipped, _ = weights.read(self.out / f"{name}.npz")
        model = _decoder(model.config, shipped)
        np.savez_compressed(self.out / f"{name}.reference.npz", **reference(model))
        record = {
            "model": name,
            "digest": seal,
            "parameters": int(sum(array.size for array in shipped.values())),
            "config": asdict(model.config),
            "run": asdict(run),
            "trained_bytes": run.steps * run.batch * run.length,
            "validation": scores(model, self.texts["validation"]),
            "held_out": scores(model, self.texts["held_out"]),
            "compressors": compressors(self.texts["held_out"]),
            "data": self.provenance,
            "made_with": _versions(),
        }
        (self.out / f"{name}.scores.json").write_text(json.dumps(record | more, indent=1) + "\n")
        print(name, record["held_out"], record["compressors"], flush=True)


def scores(model, held_out):
    """Return bits per byte at contexts of 512 and 2,048 bytes, and at 512 of which 256 or more stand before a byte."""
    record = {str(length): round(bits_per_byte(model, held_out, length), 4) for length in (512, 2048)}
    return record | {"512_after_256": round(bits_per_byte(model, held_out, 512, stride=256), 4)}


def compressors(held_out):
    """Return bits per byte of gzip and lzma, at their strongest, on the same bytes in one piece."""
    data = held_out.tobytes()
    sizes = {"gzip": len(gzip.compress(data, 9)), "lzma": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))}
    return {name: round(8 * size / len(data), 4) for name, size in sizes.items()}


@torch.no_grad()
def reference(model):
    """Return float32 logits and activations on a short text, computed on the CPU without reduced precision."""
    model = _decoder(model.config, _arrays(model), "cpu").eval()
    tokens = torch.tensor([list(text.SEPARATOR + REFERENCE_TEXT)])
    record = []
    logits = model(tokens, record)
    arrays = {"tokens": tokens.numpy().astype(np.uint8), "logits": logits.numpy()[:, ::8].astype(np.float32)}
    kinds = model.config.layers
    for layer in sorted({len(kinds) - 1 - kinds[::-1].index(kind) for kind in kinds}):  # the last of each kind
        # Two positions of each array tell a wrong formula; the live comparison in the tests sees all of them.
        for key, value in record[layer].items():
            if key not in ("a", "d", "delta_bias"):  # weights, not activations
                arrays[f"{layer}.{key}"] = value.float().numpy().take([1, -1], axis={4: 2, 3: 1}[value.ndim])
    return arrays


def _arrays(model):
    """Return a decoder's weights as arrays."""
    return {name: weight.detach().float().cpu().numpy() for name, weight in model.state_dict().items()}


def _decoder(config, arrays, device=None):
    """Return a decoder with the given weights, as float32."""
    model = Decoder(config)
    model.load_state_dict({name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()})
    return model.to(device or _device())


def _device():
    return "cuda" if torch.cuda.is_available() else "cpu"


def _versions():
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    made = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "device": device}
    return made | {"date": time.strftime("%Y-%m-%d")}


def _arguments():
    parser = argparse.ArgumentParser(description="Train the tiny language models.")
    parser.add_argument("--models", nargs="*", choices=sorted(CONFIGS), default=[])
    parser.add_argument(
        "--conversions", nargs="+", choices=CONVERSIONS, default=[], help="of the mha.npz in the out folder"
    )
    parser.add_argument("--only-convert", action="store_true", help="score the conversions without uptraining")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, logs, scores and checkpoints")
    parser.add_argument("--library", type=Path, help="folder of the library to train on; this interpreter's by default")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps to run, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="stop a stage after so long; call again to go on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
